// Drives npm `@daytonaio/sdk` 0.218.0 through the scenarios of `python_newest.py`.

"use strict"

const { createHash } = require("node:crypto")
const fsp = require("node:fs/promises")
const path = require("node:path")
const { Readable } = require("node:stream")

const { Daytona, failure, given, tellAll } = require("./harness.cjs")

const LARGE = Buffer.alloc(24 * 1024 * 1024, "0123456789abcdef-")
const SEARCHED = {
  "a.txt": "hay\na needle, a needle\n",
  "sub/b.txt": "needle",
  "c.bin": "\0needle",
}
const UNICODE = "данные № 1/отчёт “A” 100% + ü.txt"

const sha = (content) => createHash("sha256").update(content).digest("hex")
const exists = (name) => fsp.access(name).then(() => true, () => false)

async function every(values) {
  const found = []
  for await (const each of values) found.push(each)
  return found
}

const scenarios = {
  async create({ daytona }) {
    const sandbox = await daytona.create({
      name: "workshop",
      labels: { team: "blue" },
      envVars: { GIVEN_AT_CREATE: "a b;$c" },
      autoStopInterval: 7,
    })
    const printed = await sandbox.process.executeCommand('printf %s "$GIVEN_AT_CREATE"')
    return {
      id: sandbox.id,
      name: sandbox.name,
      state: sandbox.state,
      labels: sandbox.labels,
      toolbox: sandbox.toolboxProxyUrl,
      auto_stop: sandbox.autoStopInterval,
      printed: printed.result,
    }
  },

  async find({ daytona }) {
    const byName = await daytona.get("workshop")
    const ids = async (query) => (await every(daytona.list(query))).map((each) => each.id)
    return {
      "by name": byName.id,
      "by id": (await daytona.get(byName.id)).id,
      all: await ids(),
      fitting: await ids({ labels: { team: "blue" }, states: ["stopped", "started"] }),
      others: await ids({ labels: { team: "red" } }),
      missing: await failure(() => daytona.get("no-such-sandbox")),
    }
  },

  async job({ sandbox, local }) {
    await sandbox.fs.createFolder("job", "755")
    const numbers = Array.from({ length: 100000 }, (_, each) => each).join("\n")
    await fsp.writeFile(path.join(local, "numbers.txt"), numbers)
    await sandbox.fs.uploadFile(path.join(local, "numbers.txt"), "job/numbers.txt")
    const program =
      "import sys\n" +
      "total = sum(map(int, open('numbers.txt')))\n" +
      "open('result.txt', 'w').write(str(total))\n" +
      "print('wrote', total)\n"
    await sandbox.fs.uploadFile(Buffer.from(program), "job/add.py")
    const ran = await sandbox.process.executeCommand("python3 add.py", "job")
    return {
      "exit code": ran.exitCode,
      printed: ran.result,
      entries: (await sandbox.fs.listFiles("job")).map((each) => each.name),
      result: (await sandbox.fs.downloadFile("job/result.txt")).toString(),
    }
  },

  async upload({ sandbox, local, work }) {
    const large = path.join(local, "large")
    await fsp.writeFile(large, LARGE)
    await sandbox.fs.uploadFile(large, `${work}/up/large`)
    await sandbox.fs.uploadFile(Buffer.from("named"), `${work}/up/${UNICODE}`)
    await sandbox.fs.uploadFile(Buffer.alloc(0), `${work}/up/empty`)
    await sandbox.fs.uploadFiles([
      { source: large, destination: "up/many/a b" },
      { source: Buffer.from("second"), destination: `${work}/up/many/"q" & ü` },
      { source: Buffer.from("third"), destination: "up/many/третий" },
    ])
    const sent = []
    await sandbox.fs.uploadFileStream(Readable.from([LARGE]), "up/streamed", {
      onProgress: (told) => sent.push(told.bytesSent),
    })
    const uploaded = {}
    const base = path.join(work, "up")
    for (const each of await fsp.readdir(base, { recursive: true, withFileTypes: true })) {
      const file = path.join(each.parentPath, each.name)
      if (each.isFile()) uploaded[path.relative(base, file)] = sha(await fsp.readFile(file))
    }
    return {
      uploaded,
      expected: {
        large: sha(LARGE),
        [UNICODE]: sha("named"),
        empty: sha(""),
        "many/a b": sha(LARGE),
        'many/"q" & ü': sha("second"),
        "many/третий": sha("third"),
        streamed: sha(LARGE),
      },
      progress: [
        sent.every((each, index) => index === 0 || each >= sent[index - 1]),
        sent.at(-1) === LARGE.length,
      ],
      partly: await failure(() =>
        sandbox.fs.uploadFiles([
          { source: Buffer.from("bad"), destination: "/dev/null/bad" },
          { source: Buffer.from("good"), destination: "good" },
        ]),
      ),
      "the rest": await fsp.readFile(path.join(work, "good"), "utf8"),
    }
  },

  async download({ sandbox, local, work }) {
    const source = path.join(work, "down")
    await fsp.mkdir(path.dirname(path.join(source, UNICODE)), { recursive: true })
    await fsp.writeFile(path.join(source, "large"), LARGE)
    await fsp.writeFile(path.join(source, UNICODE), "named")
    await fsp.writeFile(path.join(source, "empty"), "")
    await sandbox.fs.downloadFile("down/large", path.join(local, "copy"))
    const several = await sandbox.fs.downloadFiles([
      { source: "down/large" },
      { source: `down/${UNICODE}`, destination: path.join(local, "named") },
      { source: "down/missing" },
      { source: "down" },
    ])
    const progress = []
    const stream = await sandbox.fs.downloadFileStream("down/large", {
      onProgress: (told) => progress.push([told.bytesReceived, told.totalBytes]),
    })
    const streamed = Buffer.concat(await every(stream))
    const last = progress.at(-1)
    return {
      "to memory": sha(await sandbox.fs.downloadFile("down/large")) === sha(LARGE),
      "to file": sha(await fsp.readFile(path.join(local, "copy"))) === sha(LARGE),
      empty: (await sandbox.fs.downloadFile("down/empty")).toString(),
      named: (await sandbox.fs.downloadFile(`down/${UNICODE}`)).toString(),
      streamed: sha(streamed) === sha(LARGE),
      "progress ends": last[0] === LARGE.length && last[1] === LARGE.length,
      "bulk in memory": sha(several[0].result) === sha(LARGE),
      "bulk to file": await fsp.readFile(path.join(local, "named"), "utf8"),
      "bulk failures": several
        .slice(2)
        .map((each) => [each.errorDetails.statusCode, each.errorDetails.code]),
      missing: await failure(() => sandbox.fs.downloadFile("down/missing")),
      "missing stream": await failure(async () =>
        every(await sandbox.fs.downloadFileStream("down/missing")),
      ),
    }
  },

  async searching({ sandbox, work }) {
    const { fs } = sandbox
    for (const [name, text] of Object.entries(SEARCHED))
      await fs.uploadFile(Buffer.from(text), `search/${name}`)
    const found = await fs.findFiles("search", "needle")
    const named = await fs.searchFiles("search", "*.txt")
    const files = ["search/a.txt", "search/sub/b.txt", "search/none"]
    const replaced = await fs.replaceInFiles(files, "needle", "pin")
    return {
      found: found.map((each) => [each.file, each.line, each.content]),
      named: named.files,
      replaced: replaced.map((each) => [each.file, each.success, Boolean(each.error)]),
      after: await fsp.readFile(path.join(work, "search/a.txt"), "utf8"),
      missing: await failure(() => fs.findFiles("nowhere", "needle")),
      "missing names": await failure(() => fs.searchFiles("nowhere", "*")),
    }
  },

  async entries({ sandbox, work }) {
    const { fs } = sandbox
    await fs.createFolder("tree/inner/deep", "750")
    await fs.uploadFile(Buffer.from("12345"), "tree/leaf")
    await fs.uploadFile(Buffer.from(""), "tree/inner/.hidden")
    const shallow = await fs.listFiles("tree")
    const deep = await fs.listFiles("tree", { depth: 3 })
    const leaf = await fs.getFileDetails("tree/leaf")
    const inner = await fs.getFileDetails("tree/inner")
    await fs.moveFiles("tree/inner/deep", "tree/moved")
    const taken = await failure(() => fs.moveFiles("tree/leaf", "tree/moved"))
    await fs.setFilePermissions("tree/moved", { mode: "1711" })
    const moved = await fsp.stat(path.join(work, "tree/moved"))
    const refused = await failure(() => fs.deleteFile("tree/inner"))
    await fs.deleteFile("tree/leaf")
    const afterFile = (await fs.listFiles("tree")).map((each) => each.name)
    await fs.deleteFile("tree", true)
    return {
      shallow: shallow.map((each) => [each.name, each.isDir]),
      deep: deep.map((each) => each.path),
      leaf: [leaf.name, leaf.size, leaf.isDir, leaf.owner === String(process.getuid())],
      inner: [inner.isDir, inner.permissions, inner.mode],
      moved: `0o${moved.mode.toString(8)}`,
      taken,
      "move of none": await failure(() => fs.moveFiles("tree/none", "other")),
      "mode of none": await failure(() => fs.setFilePermissions("none", { mode: "600" })),
      "bad mode": await failure(() => fs.setFilePermissions(".", { mode: "rwx" })),
      refused,
      "after file": afterFile,
      "after tree": await exists(path.join(work, "tree")),
      missing: await failure(() => fs.getFileDetails("tree/leaf")),
      denied: await failure(() => fs.deleteFile("/proc/version")),
      "not a directory": await failure(() => fs.listFiles("/proc/version")),
    }
  },

  async execute({ sandbox }) {
    const run = (...words) => sandbox.process.executeCommand(...words)
    let started = Date.now()
    const background = await run("sleep 60 & echo $!")
    const backgroundMs = Date.now() - started
    const lives = await exists(`/proc/${parseInt(background.result)}`)
    process.kill(parseInt(background.result), "SIGKILL")
    started = Date.now()
    const timeout = await failure(() => run("sleep 60", undefined, undefined, 1))
    const timeoutMs = Date.now() - started
    const codes = []
    for (const code of [0, 1, 42, 255]) codes.push((await run(`exit ${code}`)).exitCode)
    const env = { A: "x; echo $HOME", B: "ü'\"" }
    return {
      order: (await run("printf a; printf b >&2; printf c")).result,
      codes,
      env: (await run("printf '%s|' \"$A\" \"$B\"", undefined, env)).result,
      cwd: (await run("pwd", "/")).result,
      "default cwd": (await run("pwd")).result,
      "missing cwd": (await run("pwd", "/no/such")).exitCode,
      stdin: (await run("cat; echo after")).result,
      large: (await run("yes | head -c 5000000")).result.length,
      background: [background.exitCode, backgroundMs < 5000, lives],
      timeout,
      "timeout in time": timeoutMs < 6000,
      blank: await failure(() => run("   ")),
    }
  },

  async parallel({ sandbox }) {
    const commands = Array.from({ length: 32 }, (_, code) => `sleep 0.2; exit ${code}`)
    const ran = await Promise.all(
      commands.map((each) => sandbox.process.executeCommand(each)),
    )
    return { codes: ran.map((each) => each.exitCode) }
  },

  async environment({ sandbox }) {
    const show = async () =>
      (await sandbox.process.executeCommand('printf %s "${PUSHED-unset}"')).result
    await sandbox.updateEnv({ PUSHED: "a=b c" })
    const pushed = await show()
    await sandbox.updateEnv({}, { unset: ["PUSHED"] })
    const metrics = await sandbox.getMetricsLatest()
    return {
      pushed,
      removed: await show(),
      "work dir": await sandbox.getWorkDir(),
      home: await sandbox.getUserHomeDir(),
      metrics: [
        metrics.cpuCount >= 1,
        metrics.cpuUsedPct >= 0,
        metrics.memTotal >= metrics.memUsed && metrics.memUsed > 0,
        metrics.diskTotal >= metrics.diskUsed && metrics.diskUsed > 0,
      ],
    }
  },

  async signed({ sandbox }) {
    await sandbox.fs.uploadFile(Buffer.from("signed content"), "signed & ü.txt")
    const url = await sandbox.downloadUrl("signed & ü.txt")
    const forEver = await sandbox.downloadUrl("signed & ü.txt", 0)
    const to = await sandbox.uploadUrl("by-url.txt")
    const form = new FormData()
    form.append("file", new Blob(["first"]), "x")
    const multipart = await (await fetch(to, { method: "POST", body: form })).json()
    const raw = await fetch(to, { method: "POST", body: "second" })
    await raw.text()
    const status = async (...words) => {
      const answer = await fetch(...words)
      await answer.text()
      return answer.status
    }
    return {
      get: await (await fetch(url)).text(),
      head: (await fetch(forEver, { method: "HEAD" })).headers.get("content-length"),
      multipart: multipart.path,
      raw: [raw.status, (await sandbox.fs.downloadFile("by-url.txt")).toString()],
      forged: [
        await status(url.slice(0, -1) + (url.at(-1) === "A" ? "B" : "A")),
        await status(url.replace("signed", "other")),
        await status(url.replace("download", "upload-v2"), { method: "POST" }),
        await status(`${url.split("?")[0]}?path=x`),
      ],
    }
  },

  async refused({ daytona, sandbox, api }) {
    const stranger = new Daytona({ apiKey: "wrong", apiUrl: api, target: "local" })
    const told = {
      "wrong key": await failure(() => stranger.get("workshop")),
      history: await failure(() => sandbox.getMetrics()),
      snapshot: await failure(() => sandbox.createSnapshot("s")),
      fork: await failure(() => sandbox.fork()),
      image: await failure(() => daytona.create({ image: "debian:12.9" })),
    }
    await stranger[Symbol.asyncDispose]()
    return told
  },

  async life({ daytona, sandbox }) {
    const ids = async () => (await every(daytona.list())).map((each) => each.id)
    await sandbox.stop()
    const stopped = sandbox.state
    await sandbox.start()
    const started = sandbox.state
    const labels = await sandbox.setLabels({ team: "green" })
    await sandbox.setAutostopInterval(11)
    await sandbox.refreshActivity()
    const ssh = await sandbox.createSshAccess(5)
    const holds = (await sandbox.validateSshAccess(ssh.token)).valid
    await sandbox.revokeSshAccess(ssh.token)
    const gone = (await sandbox.validateSshAccess(ssh.token)).valid
    await sandbox.refreshData()
    const told = {
      stopped,
      started,
      labels,
      "auto stop": sandbox.autoStopInterval,
      ssh: [holds, gone],
    }
    await sandbox.delete(60, true)
    told.deleted = sandbox.state
    told.after = (await daytona.get(sandbox.id)).state
    told.listed = await ids()
    told.start = await failure(() => sandbox.start())
    const again = await daytona.create()
    told.again = [again.state, again.id === sandbox.id, again.labels]
    const show = 'printf %s "${GIVEN_AT_CREATE-unset}"'
    told.environment = (await again.process.executeCommand(show)).result
    return told
  },
}

tellAll(scenarios, async (daytona, name) => {
  const sandbox = name === "create" ? undefined : await daytona.get("workshop")
  return { daytona, sandbox, ...given }
})
