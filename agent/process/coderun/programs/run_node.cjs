// Runs JavaScript or TypeScript as a CommonJS script, as `node -` would run it.
//
//     node run_node.cjs <javascript|typescript> [argument ...] <file>
//
// The sandbox's own node runs this, of any version from 14 on. The last word is the file
// with the code. The code sees `process.argv` as `[node, argument, ...]`, modules as from
// the working directory, and an empty standard input.
//
// TypeScript becomes JavaScript without a check of its types, by the first of these:
// the ts-node of the project or of the PATH, node itself (from 22.13 on), `npx ts-node`,
// which may have to fetch it.

"use strict"

const fs = require("fs")
const Module = require("module")
const path = require("path")
const vm = require("vm")

const FETCH_LIMIT_MS = 20000
const NOT_FOUND = 127

// Said by ourselves, to ourselves under npx: look once more, but do not ask npx again.
const FETCHED = "typescript-fetched"

const language = process.argv[2]
const file = process.argv.pop()
const words = process.argv.slice(3)
const code = fs.readFileSync(file, "utf8").replace(/^\uFEFF/, "")
process.argv.splice(1, process.argv.length - 1, ...words)

// -- finding out how ------------------------------------------------------------------

function isFile(name) {
  try {
    return fs.statSync(name).isFile()
  } catch (error) {
    return false
  }
}

/** Return the directories from the working directory up. */
function upward() {
  const found = []
  for (let at = process.cwd(); ; at = path.dirname(at)) {
    found.push(at)
    if (at === path.dirname(at)) return found
  }
}

/** Return the first file of this name on the PATH, if there is one. */
function onPath(name) {
  return (process.env.PATH || "")
    .split(path.delimiter)
    .filter(Boolean)
    .map((each) => path.join(each, name))
    .find(isFile)
}

/** Return ts-node's compiler, of the project or of where its command is installed. */
function tsNode() {
  const command = onPath("ts-node")
  const places = upward()
  if (command) places.push(path.dirname(fs.realpathSync(command)))
  for (const each of places) {
    try {
      const found = Module.createRequire(path.join(each, "code.ts"))("ts-node")
      return found.register(TS_NODE_OPTIONS)
    } catch (error) {
      // Not here, or here without the compiler that it needs.
    }
  }
  return null
}

// -- TypeScript to JavaScript ---------------------------------------------------------

const TS_NODE_OPTIONS = {
  transpileOnly: true,
  skipProject: true,
  ignoreDiagnostics: [5107],
  compilerOptions: { module: "CommonJS" },
}

/** Return JavaScript, by node itself; ES modules stay such. */
function stripped(source) {
  try {
    return Module.stripTypeScriptTypes(source, { mode: "strip" })
  } catch (error) {
    if (error.code !== "ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX") throw error
    // Enums, namespaces and the like become code of their own, which moves the lines.
    return Module.stripTypeScriptTypes(source, { mode: "transform" })
  }
}

/** Run this program again where npx has put ts-node on the PATH; end as it ends. */
function handOver() {
  const npx = onPath("npx")
  if (!npx) {
    process.stderr.write("ts-node: not found, nor npx to fetch it\n")
    process.exit(NOT_FOUND)
  }
  const done = require("child_process").spawnSync(
    npx,
    [
      "--yes", "--package=ts-node", "--package=typescript@5", "--",
      process.execPath, __filename, FETCHED, ...words, file,
    ],
    {
      stdio: "inherit",
      env: Object.assign({}, process.env, {
        npm_config_loglevel: "error",
        npm_config_update_notifier: "false",
        // What was fetched before is not asked for again; a sandbox without a network is
        // told so soon.
        npm_config_prefer_offline: "true",
        npm_config_fetch_retries: "0",
        npm_config_fetch_timeout: String(FETCH_LIMIT_MS),
      }),
    },
  )
  process.exitCode = done.status === null ? NOT_FOUND : done.status
}

// -- running --------------------------------------------------------------------------

/** Keep out of the code's output that we use what node has not settled yet. */
function withoutNews() {
  const emit = process.emitWarning
  process.emitWarning = function (warning, ...rest) {
    const ours = /USE_MAIN_CONTEXT_DEFAULT_LOADER|stripTypeScriptTypes|registerHooks/
    if (!ours.test(String(warning))) emit.call(this, warning, ...rest)
  }
}

/** Make the module that the code is, with what a script finds in the global object. */
function prepare(name) {
  const main = new Module(name, undefined)
  main.filename = path.join(process.cwd(), name)
  main.paths = Module._nodeModulePaths(process.cwd())
  process.mainModule = main
  const required = Module.createRequire(main.filename)
  required.main = main
  const names = { require: required, module: main, exports: main.exports, __filename: name, __dirname: "." }
  for (const each of Object.keys(names)) {
    Object.defineProperty(globalThis, each, { value: names[each], configurable: true, writable: true })
  }
}

/** Run a CommonJS script; its top level is that of the global scope, as in `node -`. */
function runScript(source, name) {
  const constants = vm.constants || {}
  const loader = constants.USE_MAIN_CONTEXT_DEFAULT_LOADER
  const script = new vm.Script(source, {
    filename: name,
    // Where node has no such loader, modules are found as far as `require` finds them.
    importModuleDynamically: loader || ((specifier) => import(located(specifier))),
  })
  script.runInThisContext({ displayErrors: true })
}

/** Return where `import(specifier)` leads from the working directory. */
function located(specifier) {
  const found = globalThis.require.resolve(specifier)
  return path.isAbsolute(found) ? require("url").pathToFileURL(found).href : found
}

/** Run an ES module, which lives in the working directory without being there. */
function runModule(source, name) {
  const url = require("url").pathToFileURL(path.join(process.cwd(), name)).href
  Module.registerHooks({
    resolve: (specifier, context, next) =>
      specifier === url ? { url, format: "module", shortCircuit: true } : next(specifier, context),
    load: (at, context, next) =>
      at === url ? { format: "module", source, shortCircuit: true } : next(at, context),
  })
  import(url)
}

/** Tell whether node refused the code because it is an ES module. */
function isModuleSyntax(error) {
  return (
    error instanceof SyntaxError &&
    /import statement outside a module|Unexpected token 'export'|'import.meta'|await is only valid/.test(error.message)
  )
}

function run(source, name) {
  try {
    runScript(source, name)
  } catch (error) {
    if (!isModuleSyntax(error) || !Module.registerHooks) throw error
    runModule(source, name)
  }
}

function runTypeScript() {
  const name = "[stdin].ts"
  const compiler = tsNode()
  if (!compiler && !Module.stripTypeScriptTypes) {
    if (language !== FETCHED) return handOver()
    process.stderr.write("ts-node: not found\n")
    process.exit(NOT_FOUND)
  }
  prepare(name)
  run(compiler ? compiler.compile(code, path.join(process.cwd(), name)) : stripped(code), name)
}

withoutNews()
if (language === "javascript") {
  prepare("[stdin]")
  run(code, "[stdin]")
} else {
  runTypeScript()
}
