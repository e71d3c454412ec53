// Drives sessions of npm `@daytonaio/sdk` 0.218.0, as `python_sessions.py` does.

"use strict"

const { failure, tellAll } = require("./harness.cjs")

const LONG =
  "i=0; while [ $i -lt 20000 ]; do echo é漢🙂 $i; i=$((i+1)); done; echo bad >&2"

// The two callbacks of a follower, and what they were given.
class Heard {
  out = []
  err = []

  static async follow(box, session, command) {
    const heard = new Heard()
    await box.getSessionCommandLogs(
      session,
      command,
      (text) => heard.out.push(text),
      (text) => heard.err.push(text),
    )
    return heard
  }

  get texts() {
    return [this.out.join(""), this.err.join("")]
  }
}

const code = (told) => told.exitCode ?? null

const scenarios = {
  async life(box) {
    await box.createSession("a ü-b")
    const made = await box.getSession("a ü-b")
    const first = await box.executeSessionCommand("a ü-b", { command: "cd /; export A='x y'" })
    const second = await box.executeSessionCommand("a ü-b", {
      command: 'pwd; printf %s "$A"; (exit 7)',
    })
    const told = await box.getSession("a ü-b")
    const listed = await box.listSessions()
    const command = await box.getSessionCommand("a ü-b", second.cmdId)
    const taken = await failure(() => box.createSession("a ü-b"))
    await box.deleteSession("a ü-b")
    return {
      made: [made.sessionId, made.commands],
      codes: [first.exitCode, second.exitCode],
      stdout: second.stdout,
      commands: told.commands.map((each) => [each.command, code(each)]),
      listed: listed.map((each) => each.sessionId),
      command: [command.id === second.cmdId, command.exitCode],
      taken,
      deleted: await failure(() => box.getSession("a ü-b")),
      after: (await box.listSessions()).map((each) => each.sessionId),
    }
  },

  async outputs(box) {
    await box.createSession("outputs")
    const both = "printf 'out é'; sleep 0.05; printf 'err 漢' >&2"
    const ran = await box.executeSessionCommand("outputs", { command: both })
    const logs = await box.getSessionCommandLogs("outputs", ran.cmdId)
    const heard = await Heard.follow(box, "outputs", ran.cmdId)
    const quiet = await box.executeSessionCommand("outputs", { command: "true" })
    return {
      ran: [ran.stdout, ran.stderr, ran.exitCode],
      combined: ran.output,
      logs: [logs.stdout, logs.stderr],
      heard: heard.texts,
      quiet: [quiet.stdout, quiet.stderr, quiet.exitCode],
    }
  },

  async following(box) {
    await box.createSession("following")
    const run = (command) =>
      box.executeSessionCommand("following", { command, runAsync: true })
    const started = await run(LONG)
    const heard = await Heard.follow(box, "following", started.cmdId)
    const told = await box.getSessionCommand("following", started.cmdId)
    const slow = await run("echo a; sleep 0.4; echo b")
    const pieces = (await Heard.follow(box, "following", slow.cmdId)).out
    let wanted = ""
    for (let i = 0; i < 20000; i++) wanted += `é漢🙂 ${i}\n`
    return {
      started: [code(started), started.stdout ?? "", Boolean(started.cmdId)],
      whole: heard.texts[0] === wanted,
      err: heard.texts[1],
      code: told.exitCode,
      pieces,
    }
  },

  async typing(box) {
    await box.createSession("typing")
    const started = await box.executeSessionCommand("typing", {
      command: "read a; echo got $a; cat",
      runAsync: true,
    })
    await box.sendSessionCommandInput("typing", started.cmdId, "first")
    await box.sendSessionCommandInput("typing", started.cmdId, "second\n")
    const following = Heard.follow(box, "typing", started.cmdId)
    let found = ""
    while (found.split("second\n").length < 3 || !found.includes("got first\n")) {
      await new Promise((go) => setTimeout(go, 20))
      found = (await box.getSessionCommandLogs("typing", started.cmdId)).stdout
    }
    await box.deleteSession("typing")
    return { log: found.split(/\s+/).filter(Boolean).sort(), heard: (await following).texts[0] === found }
  },

  async entrypoint(box) {
    const session = await box.getEntrypointSession()
    const heard = new Heard()
    await box.getEntrypointLogs(
      (text) => heard.out.push(text),
      (text) => heard.err.push(text),
    )
    const logs = await box.getEntrypointLogs()
    return {
      commands: session.commands.map((each) => [each.id, each.command]),
      logs: [logs.stdout, logs.stderr],
      heard: heard.texts,
    }
  },

  async failures(box) {
    await box.createSession("failing")
    const ended = await box.executeSessionCommand("failing", {
      command: "read x; (exit 4)",
      runAsync: true,
    })
    await box.sendSessionCommandInput("failing", ended.cmdId, "")
    await Heard.follow(box, "failing", ended.cmdId)
    const late = await failure(() => box.sendSessionCommandInput("failing", ended.cmdId, "late"))
    const last = await box.executeSessionCommand("failing", { command: "exit 5" })
    const never = { command: "echo never" }
    return {
      late,
      last: last.exitCode,
      dead: await failure(() => box.executeSessionCommand("failing", never)),
      unknown: await failure(() => box.executeSessionCommand("none", never)),
      "unknown command": await failure(() => box.getSessionCommand("failing", "none")),
      "unknown follow": await failure(() => Heard.follow(box, "failing", "none")),
      blank: await failure(() => box.executeSessionCommand("failing", { command: " " })),
      reserved: await failure(() => box.createSession("entrypoint")),
    }
  },
}

tellAll(scenarios, async (daytona) => (await daytona.create()).process)
