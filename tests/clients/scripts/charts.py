"""The code whose charts every client is asked for; run in the sandbox."""

EVERY_CHART = """\
import datetime
import matplotlib.pyplot as plt

days = [datetime.datetime(2024, 1, 1), datetime.datetime(2024, 1, 2)]
plt.plot([*days, days[1]], [1, 2, float('nan')], label='up'); plt.title('Line'); plt.xlabel('x')
plt.ylabel('y'); plt.show()
plt.scatter([1, 2], [3, 4]); plt.title('Scatter'); plt.show()
plt.bar(['a', 'b'], [3, 2.5]); plt.title('Bar'); plt.xlabel('x'); plt.show()
plt.pie([1, 3], labels=['p', 'q'], autopct='%d'); plt.title('Pie'); plt.show()
plt.boxplot([[1, 2, 3, 4, 50]]); plt.title('Box'); plt.show()
figure, (left, right) = plt.subplots(1, 2)
left.plot([1, 2]); left.set_title('Left'); right.bar(['r'], [1]); right.set_title('Right')
figure.suptitle('Composite'); plt.show()
plt.imshow([[1, 2], [3, 4]]); plt.title('Other'); plt.show()
print('drawn')
"""
