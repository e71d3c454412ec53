// Gives messages to the TypeScript client's own demultiplexer; tells what it made of each.

"use strict"

const path = require("node:path")

const utils = path.join(process.cwd(), "node_modules/@daytonaio/sdk/cjs/utils/Stream.js")
const { stdDemuxStream } = require(utils)

async function demultiplexed(messages) {
  const socket = new EventTarget()
  socket.close = () => {}
  const heard = [[], []]
  const ended = stdDemuxStream(
    socket,
    (text) => heard[0].push(text),
    (text) => heard[1].push(text),
  )
  for (const each of messages) {
    const data = Uint8Array.from(Buffer.from(each, "base64")).buffer
    socket.dispatchEvent(new MessageEvent("message", { data }))
  }
  socket.dispatchEvent(new Event("close"))
  await ended
  return heard.map((each) => each.join(""))
}

async function main() {
  let text = ""
  for await (const chunk of process.stdin) text += chunk
  const told = []
  for (const each of JSON.parse(text)) told.push(await demultiplexed(each))
  process.stdout.write("\n" + JSON.stringify(told))
}

main()
