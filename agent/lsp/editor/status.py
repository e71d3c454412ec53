"""What language servers there are and what they cost."""

from agent.keeper import tree
from agent.lsp.editor.models import LspStatus, ServerStatus
from agent.lsp.registry import LanguageServers


async def status(servers: LanguageServers) -> LspStatus:
    """Return all servers with the memory of all their processes."""
    listed = servers.all()
    roots = [
        {pid for pid in (each.pid, each.index and each.index.pid) if pid}
        for each in listed
    ]
    memory = await servers.threads.run(memory_bytes, roots)
    return LspStatus(
        servers=[
            ServerStatus(
                family=each.family.name,
                languages=list(each.family.languages),
                server=each.found.candidate.name if each.found else None,
                project=each.project.path,
                state=each.state,
                pid=each.pid,
                memory_bytes=used,
                documents=len(each.documents),
                restarts=each.restarts,
                last_error=each.last_error or None,
            )
            for each, used in zip(listed, memory, strict=True)
        ]
    )


def memory_bytes(roots: list[set[int]]) -> list[int]:
    """Return the memory of some trees of processes; blocks."""
    # By the first question, not by the agent's start.
    import psutil  # noqa: PLC0415

    processes = tree.table()
    found = []
    for each in roots:
        total = 0
        for pid in each | {below.pid for below in tree.descendants(processes, each)}:
            try:
                total += int(psutil.Process(pid).memory_full_info().pss)
            except psutil.Error:
                # It has ended meanwhile, or hides.
                continue
        found.append(total)
    return found
