// Drives language servers of npm `@daytonaio/sdk` 0.218.0, as `python_lsp.py` those of PyPI's.

"use strict"

const { failure, given, tellAll } = require("./harness.cjs")

const FOLDER = "e2e-lsp-project"
const { text: TEXT, file: FILE, language: LANGUAGE } = given

async function prepared(daytona, language = LANGUAGE) {
  const sandbox = await daytona.create()
  await sandbox.fs.createFolder(FOLDER, "755")
  await sandbox.fs.uploadFile(Buffer.from(TEXT), `${FOLDER}/${FILE}`)
  const lsp = await sandbox.createLspServer(language, FOLDER)
  return { sandbox, lsp, file: `${FOLDER}/${FILE}` }
}

const scenarios = {
  async flow(daytona) {
    const { lsp, file } = await prepared(daytona)
    const early = await failure(() => lsp.didOpen(file))
    await lsp.start()
    await lsp.didOpen(file)
    const inDocument = await lsp.documentSymbols(file)
    const inSandbox = await lsp.sandboxSymbols("Greeter")
    const lines = TEXT.split("\n")
    const position = { line: lines.length - 1, character: lines.at(-1).length }
    const completions = await lsp.completions(file, position)
    const atZero = await lsp.completions(file, { line: 0, character: 0 })
    await lsp.didClose(file)
    await lsp.stop()
    const late = await failure(() => lsp.documentSymbols(file))
    await lsp.stop()
    return {
      early,
      document: inDocument.map((each) => each.name),
      sandbox: inSandbox.map((each) => each.name),
      uris: [...new Set(inSandbox.map((each) => each.location.uri))].sort(),
      labels: completions.items.map((each) => each.label),
      documented: atZero.items.filter((each) => each.documentation).length,
      late,
    }
  },

  async paths(daytona) {
    const { sandbox, lsp } = await prepared(daytona)
    const name = `${FOLDER}/ä b#c%${FILE.slice("sample".length)}`
    const text = LANGUAGE === "python" ? "def odd(): ...\n" : "function odd() {}\n"
    await sandbox.fs.uploadFile(Buffer.from(text), name)
    await lsp.start()
    const found = []
    for (const file of [name, `${given.work}/${name}`]) {
      found.push((await lsp.documentSymbols(file)).map((each) => each.name))
    }
    const missing = await failure(() => lsp.didOpen("no/such.py"))
    await lsp.stop()
    return { found, missing }
  },

  async failures(daytona) {
    const sandbox = await daytona.create()
    const nowhere = await sandbox.createLspServer("python", "no-such-project")
    return { unknown: null, nowhere: await failure(() => nowhere.start()) }
  },
}

tellAll(scenarios, (daytona) => daytona)
