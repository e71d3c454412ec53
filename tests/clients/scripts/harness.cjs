// Runs the scenarios of npm `@daytonaio/sdk` 0.218.0, as `harness.py` those of PyPI's.

"use strict"

const { readFileSync } = require("node:fs")
const path = require("node:path")
const { createRequire } = require("node:module")

// The client lives in an environment of its own, which is the working directory.
const { Daytona } = createRequire(path.join(process.cwd(), "x.js"))("@daytonaio/sdk")

// Where the agent is, its key, and directories: on its side, and on ours.
const given = JSON.parse(readFileSync(0, "utf8"))

// What the client makes of a call that must fail.
async function failure(call) {
  try {
    await call()
  } catch (error) {
    const kinds = []
    for (let at = error.constructor; at && at.name; at = Object.getPrototypeOf(at)) {
      kinds.push(at.name)
    }
    return { kinds, status: error.statusCode ?? null, code: error.code ?? null, message: error.message }
  }
  throw new Error("it did not fail")
}

// Runs all scenarios in their order, each with what `prepared` makes of the client, and
// tells what came of each as one JSON object; one that throws does not stop the others.
async function tellAll(scenarios, prepared = (daytona) => ({ daytona })) {
  const daytona = new Daytona({ apiKey: given.key, apiUrl: given.api, target: "local" })
  const outcomes = {}
  for (const [name, scenario] of Object.entries(scenarios)) {
    try {
      outcomes[name] = await scenario(await prepared(daytona, name))
    } catch (error) {
      outcomes[name] = { raised: String(error.stack) }
    }
  }
  process.stdout.write("\n" + JSON.stringify(outcomes))
  await daytona[Symbol.asyncDispose]()
}

module.exports = { Daytona, failure, given, tellAll }
