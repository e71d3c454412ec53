// Drives `codeRun` of npm `@daytonaio/sdk` 0.218.0, as `python_code_run.py` that of PyPI's.

"use strict"

const { readFileSync } = require("node:fs")
const path = require("node:path")

const { failure, tellAll } = require("./harness.cjs")

const [, EVERY_CHART] = readFileSync(path.join(__dirname, "charts.py"), "utf8")
  .replace(/\\\n/g, "")
  .match(/EVERY_CHART = """([^]*)"""/)

const plain = (answer) => [answer.exitCode, answer.result]

const scenarios = {
  async python({ daytona }) {
    const { process } = await daytona.create({ language: "python" })
    const params = { argv: ["a b", "$X"], env: { K: "x; echo $HOME" } }
    const show = "import os, sys; print(sys.argv, os.environ['K'])"
    return {
      printed: plain(await process.codeRun("print(6 * 7)")),
      given: plain(await process.codeRun(show, params)),
      failed: plain(await process.codeRun("import sys; sys.exit(3)")),
      input: plain(await process.codeRun("input()")),
      timeout: await failure(() => process.codeRun("import time; time.sleep(60)", undefined, 1)),
      empty: await failure(() => process.codeRun("")),
    }
  },

  async charts({ daytona }) {
    const { process } = await daytona.create({ language: "python" })
    const answer = await process.codeRun(EVERY_CHART)
    const { charts, stdout } = answer.artifacts
    return {
      result: plain(answer),
      stdout,
      titles: charts.map((each) => each.title),
      pictures: charts.map((each) => Buffer.from(each.png, "base64").subarray(1, 4).toString() === "PNG"),
      charts: charts.map(({ png, ...each }) => each),
    }
  },

  async others({ daytona }) {
    const params = { argv: ["a b"], env: { K: "v" } }
    const codes = {
      javascript: "console.log(process.argv.slice(1), process.env.K)",
      typescript: "const k: any = process.env.K; console.log(process.argv.slice(1), k)",
    }
    const told = {}
    for (const [language, code] of Object.entries(codes)) {
      const { process } = await daytona.create({ language })
      told[language] = plain(await process.codeRun(code, params))
    }
    return told
  },
}

tellAll(scenarios)
