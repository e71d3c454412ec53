// Drives git with npm `@daytonaio/sdk` 0.218.0 through the scenarios of `python_git.py`.

"use strict"

const fsp = require("node:fs/promises")
const path = require("node:path")

const { failure, given, tellAll } = require("./harness.cjs")

const AUTHOR = ["Ada", "ada@example.test"]

const scenarios = {
  async distant({ git, work, remote, user, password }) {
    const [one, two] = ["one", "two"].map((name) => path.join(work, name))
    const told = {
      without: await failure(() => git.clone(remote, one)),
      wrong: await failure(() => git.clone(remote, one, undefined, undefined, user, "x")),
    }
    for (const each of [one, two]) {
      await git.clone(remote, each, undefined, undefined, user, password)
    }
    const content = (where) => fsp.readFile(path.join(where, "a.txt"), "utf8")
    told.cloned = await content(one)
    told.kept = (await fsp.readFile(path.join(one, ".git/config"), "utf8")).includes(password)
    await fsp.writeFile(path.join(one, "a.txt"), "changed")
    await git.add(one, ["a.txt"])
    const made = await git.commit(one, "changed", ...AUTHOR)
    told.ahead = (await git.status(one)).ahead
    await git.push(one, user, password)
    await git.pull(two, user, password)
    told.pulled = await content(two)
    const status = await git.status(two)
    told.status = [
      status.currentBranch,
      status.branchPublished,
      status.ahead,
      status.behind,
      status.fileStatus,
    ]
    told.sha = made.sha.length
    for (const [where, words] of [[one, "again"], [two, "otherwise"]]) {
      await fsp.writeFile(path.join(where, "a.txt"), words)
      await git.add(where, ["."])
      await git.commit(where, words, ...AUTHOR)
    }
    await git.push(one, user, password)
    told.rejected = await failure(() => git.push(two, user, password))
    told.diverged = await failure(() => git.pull(two, user, password))
    return told
  },

  async branches({ git, work }) {
    const one = path.join(work, "one")
    const before = (await git.branches(one)).branches
    await git.createBranch(one, "side")
    const both = (await git.branches(one)).branches
    const created = (await git.status(one)).currentBranch
    await git.checkoutBranch(one, "main")
    await git.deleteBranch(one, "side")
    return {
      before,
      both,
      created,
      after: (await git.branches(one)).branches,
      unknown: await failure(() => git.checkoutBranch(one, "nope")),
      taken: await failure(() => git.createBranch(one, "main")),
      current: await failure(() => git.deleteBranch(one, "main")),
      nowhere: await failure(() => git.status(path.join(work, "none"))),
    }
  },

  async files({ git, work }) {
    const one = path.join(work, "one")
    await fsp.writeFile(path.join(one, "new"), "new")
    await fsp.writeFile(path.join(one, "a.txt"), "edited")
    await git.add(one, ["new"])
    const states = {}
    for (const each of (await git.status(one)).fileStatus) {
      states[each.name] = [each.staging, each.worktree]
    }
    const unknown = await failure(() => git.add(one, ["nope"]))
    await git.commit(one, "new", ...AUTHOR)
    const dirty = await failure(() => git.commit(one, "nothing", ...AUTHOR))
    return { states, unknown, dirty }
  },

  async newest({ git, work, remote, user, password }) {
    const made = path.join(work, "made")
    const file = path.join(made, "x")
    await git.init(made, false, "trunk")
    await fsp.writeFile(file, "1")
    await git.add(made, ["."])
    await git.commit(made, "first", ...AUTHOR)
    await fsp.writeFile(file, "2")
    await git.restore(made, ["x"])
    const restored = await fsp.readFile(file, "utf8")
    await git.commit(made, "second", ...AUTHOR, true)
    await git.reset(made, "hard", "HEAD~1")
    await git.remoteAdd(made, "up", remote)
    await git.configureUser(...AUTHOR)
    await git.setConfig("a.b", "c", "local", made)
    const told = {
      branch: (await git.branches(made)).current,
      restored,
      remotes: (await git.remotes(made)).remotes.map((each) => each.name),
      remote: await git.remoteGet(made, "up"),
      none: (await git.remoteGet(made, "nobody")) ?? null,
      user: await git.getConfig("user.name"),
      value: await git.getConfig("a.b", "local", made),
      unset: (await git.getConfig("not.set")) ?? null,
      again: await failure(() => git.init(made)),
      mode: await failure(() => git.reset(made, "wild")),
    }
    await git.dangerouslyAuthenticate(user, password, remote.split("/")[2], "http")
    const three = path.join(work, "three")
    await git.clone(remote, three, undefined, undefined, undefined, undefined, undefined, 1)
    told.authenticated = (await fsp.readdir(three)).includes("a.txt")
    return told
  },
}

tellAll(scenarios, async (daytona) => ({ git: (await daytona.create()).git, ...given }))
