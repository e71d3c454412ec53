// Gets previews with npm `@daytonaio/sdk` 0.218.0, through the scenarios of `python_previews.py`.

"use strict"

const fs = require("node:fs")
const path = require("node:path")

const { failure, given, tellAll } = require("./harness.cjs")

const APP = fs.readFileSync(path.join(__dirname, "shown.py"), "utf8")
const START =
  'python3 -c "$APP" >/dev/null 2>&1 & while [ ! -e port ]; do sleep 0.02; done; cat port'
const EXPIRY_LIMIT_MS = 10000

async function get(url, headers = {}) {
  const answer = await fetch(url, { headers, redirect: "manual" })
  return [answer.status, answer.ok ? await answer.json() : await answer.text()]
}

const scenarios = {
  async link({ sandbox, port, key }) {
    const preview = await sandbox.getPreviewLink(port)
    const toolbox = await sandbox.getPreviewLink(2280)
    const shown = { "X-Daytona-Preview-Token": preview.token }
    return {
      port,
      url: preview.url,
      "token is the key": preview.token === key,
      "by token": await get(`${preview.url}/a%2Fb?c=%20`, shown),
      "by key": await get(preview.url, { Authorization: `Bearer ${key}` }),
      "by nothing": await get(preview.url),
      toolbox: await get(`${toolbox.url}/work-dir`, { "X-Daytona-Preview-Token": toolbox.token }),
      "toolbox by another's": await get(`${toolbox.url}/work-dir`, shown),
    }
  },

  async signed({ sandbox, port }) {
    const made = await sandbox.getSignedPreviewUrl(port, 3600)
    const told = { port: made.port, opened: (await get(`${made.url}/x`))[0] }
    await sandbox.expireSignedPreviewUrl(port, made.token)
    told.revoked = (await get(`${made.url}/x`))[0]
    const short = await sandbox.getSignedPreviewUrl(port, 2)
    told["at first"] = (await get(short.url))[0]
    const ends = Date.now() + EXPIRY_LIMIT_MS
    while ((told.expired = (await get(short.url))[0]) === 200 && Date.now() < ends) {
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    told.toolbox = await failure(() => sandbox.getSignedPreviewUrl(2280))
    return told
  },
}

async function open(daytona) {
  const sandbox = await daytona.create()
  const ran = await sandbox.process.executeCommand(START, undefined, { APP })
  return { sandbox, port: Number(ran.result), key: given.key }
}

let opened
tellAll(scenarios, async (daytona) => {
  opened ??= await open(daytona)
  return opened
})
