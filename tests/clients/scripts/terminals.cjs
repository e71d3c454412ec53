// Opens terminals with npm `@daytonaio/sdk` 0.218.0, as `python_terminals.py` does.

"use strict"

const { failure, tellAll } = require("./harness.cjs")

class Terminal {
  constructor() {
    this.chunks = []
    this.onData = (data) => this.chunks.push(Buffer.from(data))
  }

  static async create(sandbox, id, options = {}) {
    const terminal = new Terminal()
    terminal.handle = await sandbox.process.createPty({ id, ...options, onData: terminal.onData })
    await terminal.handle.waitForConnection()
    return terminal
  }

  static async connect(sandbox, id) {
    const terminal = new Terminal()
    terminal.handle = await sandbox.process.connectPty(id, { onData: terminal.onData })
    await terminal.handle.waitForConnection()
    return terminal
  }

  get output() {
    return Buffer.concat(this.chunks)
  }

  type(text) {
    return this.handle.sendInput(text)
  }

  async until(wanted) {
    while (!this.output.includes(wanted)) await new Promise((go) => setTimeout(go, 10))
  }

  async end() {
    const { exitCode, error } = await this.handle.wait()
    return [exitCode, error ?? null]
  }
}

const scenarios = {
  async session(sandbox) {
    const terminal = await Terminal.create(sandbox, "main", {
      cwd: "/usr",
      envs: { FOO: "a b;ü" },
      rows: 30,
      cols: 100,
    })
    await terminal.type("stty size; echo \"$FOO\" $PWD fi''rst\n")
    await terminal.until("first")
    const info = await sandbox.process.getPtySessionInfo("main")
    const listed = await sandbox.process.listPtySessions()
    const taken = await failure(() => Terminal.create(sandbox, "main"))
    await terminal.handle.resize(132, 44)
    await terminal.type("stty size; echo se''cond; exit 7\n")
    const ended = await terminal.end()
    const text = terminal.output.toString()
    return {
      text: ["30 100", "a b;ü /usr first", "44 132"].map((each) => text.includes(each)),
      info: [info.cols, info.rows, info.cwd, info.active, info.envs.FOO],
      listed: listed.map((each) => each.id),
      taken,
      ended,
      after: await failure(() => sandbox.process.getPtySessionInfo("main")),
    }
  },

  async ends(sandbox) {
    const told = {}
    for (const [name, line] of [
      ["well", "exit 0\n"],
      ["badly", "exit 3\n"],
      ["interrupted", "exit 130\n"],
      ["killed itself", "kill -9 $$\n"],
    ]) {
      const terminal = await Terminal.create(sandbox, name)
      await terminal.type(line)
      told[name] = await terminal.end()
    }
    const terminal = await Terminal.create(sandbox, "killed")
    await terminal.handle.kill()
    told.killed = await terminal.end()
    return told
  },

  async volume(sandbox) {
    const terminal = await Terminal.create(sandbox, "volume")
    await terminal.type("stty -opost -echo; seq 1 400000; exit\n")
    const ended = await terminal.end()
    const whole = Array.from({ length: 400000 }, (_, index) => `${index + 1}\n`).join("")
    return { ended, whole: terminal.output.includes(whole) }
  },

  async again(sandbox) {
    let terminal = await Terminal.create(sandbox, "again")
    await terminal.type("sleep 0.3; echo mis''sed\n")
    await terminal.handle.disconnect()
    terminal = await Terminal.connect(sandbox, "again")
    await terminal.until("missed")
    await terminal.type("exit\n")
    const ended = await terminal.end()
    return { ended, unknown: await failure(() => Terminal.connect(sandbox, "nobody")) }
  },
}

tellAll(scenarios, (daytona) => daytona.create()).then(() => process.exit(0))
