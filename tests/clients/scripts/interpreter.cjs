// Drives `codeInterpreter` of npm `@daytonaio/sdk` 0.218.0, as `python_interpreter.py` that
// of PyPI's.

"use strict"

const { failure, tellAll } = require("./harness.cjs")

const plain = ({ stdout, stderr, error }) => [
  stdout,
  stderr,
  error ? [error.name, error.value, error.traceback] : null,
]

const scenarios = {
  async running({ interpreter }) {
    const run = (code, options) => interpreter.runCode(code, options)
    const heard = { stdout: "", stderr: "", error: "" }
    await run("import os, sys\nx = 41")
    const called = await run("print(x + 1)\nsys.stderr.write('e')\nos.system('echo child')\n1/0", {
      onStdout: (message) => (heard.stdout += message.output),
      onStderr: (message) => (heard.stderr += message.output),
      onError: (error) => (heard.error += error.name),
    })
    const many = []
    for (let i = 0; i < 100; i += 1) many.push((await run("print(1)")).stdout)
    return {
      called: plain(called),
      heard,
      envs: plain(await run("print(os.environ['A'])", { envs: { A: "b c" } })),
      after: plain(await run("print(os.environ.get('A'))")),
      long: (await run("print('é' * 5000000)")).stdout.length,
      error: plain(await run("raise ValueError('v' * 10**6)"))[2][0],
      input: plain(await run("input()"))[2][0],
      exit: plain(await run("exit()")),
      many,
    }
  },

  async limits({ interpreter }) {
    const run = (code, options) => interpreter.runCode(code, options)
    await run("import os, time")
    const started = Date.now()
    const late = await failure(() => run("y = 1\ntime.sleep(60)", { timeout: 1 }))
    const took = Date.now() - started
    return {
      late,
      "in time": took < 5000,
      kept: plain(await run("print(y)")),
      died: await failure(() => run("os._exit(3)")),
      fresh: plain(await run("print('y' in globals())")),
    }
  },

  async contexts({ interpreter }) {
    const before = (await interpreter.listContexts()).length
    const context = await interpreter.createContext("/")
    const ran = await interpreter.runCode("import os\nprint(os.getcwd())", { context })
    const listed = await interpreter.listContexts()
    await interpreter.deleteContext(context)
    return {
      before,
      ran: plain(ran),
      listed: listed.map((each) => [each.id === context.id, each.cwd, each.active, each.language]),
      created: Boolean(context.createdAt),
      after: (await interpreter.listContexts()).length,
      gone: await failure(() => interpreter.runCode("1", { context })),
      "deleted twice": await failure(() => interpreter.deleteContext(context)),
      "bad cwd": await failure(() => interpreter.createContext("/no/such")),
    }
  },
}

tellAll(scenarios, async (daytona) => ({ interpreter: (await daytona.create()).codeInterpreter }))
