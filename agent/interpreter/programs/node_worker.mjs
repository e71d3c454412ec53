// Runs pieces of code one after the other in one realm: the worker of a JavaScript or
// TypeScript context.
//
//   node node_worker.mjs javascript|typescript
//
// What python_context.py says of the agent's descriptors holds here too. Node cannot move a
// descriptor, but opens it anew by /proc: the copy is closed at exec, and whatever is done to
// the original leaves it as it is.
//
// Code is evaluated as the console of a browser's developer tools does it (V8's REPL mode):
// `let` and `const` may be declared again in a later run, and `await` works outside of
// functions. `import` statements are turned into their dynamic form, found from where the
// code runs. TypeScript loses its types by node's own means, so it is not checked.

import fs from 'node:fs';
import inspector from 'node:inspector';
import module from 'node:module';
import net from 'node:net';
import path from 'node:path';
import { Writable } from 'node:stream';
import { pathToFileURL } from 'node:url';
import util from 'node:util';
import vm from 'node:vm';

const language = process.argv[2];
const LOST_DESCRIPTORS = 71;
const VALUE_MAX = 8 * 1024;
const TRACEBACK_MAX = 20 * 1024;
const TEXT_MAX = 64 * 1024;
const JSON_MAX = 256 * 1024;
const EXIT = Symbol('exit');
const GROUP = 'toolbox';

const { constants, openSync, closeSync, fstatSync, writeSync } = fs;
const reopen = (fd, flags) => openSync(`/proc/self/fd/${fd}`, flags);
const control = reopen(3, constants.O_WRONLY);
const outputs = [1, 2].map((fd) => reopen(fd, constants.O_WRONLY));
const requests = reopen(0, constants.O_RDONLY);
closeSync(3);
closeSync(0);
// The lowest number that is free is 0.
openSync('/dev/null', constants.O_RDONLY);

const ownExit = process.reallyExit.bind(process);

function writeAll(fd, text) {
  let rest = Buffer.from(text);
  try {
    while (rest.length > 0) rest = rest.subarray(writeSync(fd, rest));
  } catch {
    ownExit(LOST_DESCRIPTORS);
  }
}

// Node's own would leave the rest of long output for later, behind the mark of its run.
class Output extends Writable {
  constructor(fd) {
    super({ decodeStrings: true });
    this.fd = fd;
  }

  _write(chunk, _encoding, done) {
    try {
      for (let rest = chunk; rest.length > 0; ) rest = rest.subarray(written(this.fd, rest));
      done();
    } catch (error) {
      done(error);
    }
  }
}

function written(fd, bytes) {
  try {
    return writeSync(fd, bytes);
  } catch (error) {
    if (error.code !== 'EAGAIN') throw error;
    // A child has made the pipe non-blocking; there is no poll to wait with.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    return 0;
  }
}

for (const [name, fd] of [['stdout', 1], ['stderr', 2]]) {
  Object.defineProperty(process, name, { value: new Output(fd), configurable: true });
  process[name].on('error', () => {});
}

let mark = '';

// Sends a message of the run, behind all that was written before.
function tell(message) {
  for (const fd of outputs) writeAll(fd, mark);
  writeAll(control, `${JSON.stringify(message)}\n`);
}

// Makes 1 and 2 what they were, if the code has closed them.
function restore() {
  for (const fd of [1, 2]) {
    try {
      fstatSync(fd);
    } catch {
      while (reopen(outputs[fd - 1], constants.O_WRONLY) < fd);
    }
  }
}

// -- code --------------------------------------------------------------------------------

const session = new inspector.Session();
session.connect();
const here = () => path.join(process.cwd(), 'stdin.mjs');

function importer() {
  const loader = vm.constants?.USE_MAIN_CONTEXT_DEFAULT_LOADER;
  if (loader === undefined) {
    return (name) => import(name.startsWith('.') ? pathToFileURL(path.resolve(name)).href : name);
  }
  return new vm.Script('(name) => import(name)', {
    filename: here(),
    importModuleDynamically: loader,
  }).runInThisContext();
}

function hide(name, value) {
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
}

hide('__toolbox_import', (name) => importer()(String(name)));
hide('require', module.createRequire(here()));

const NAMES = '[\\w$]+|\\{[^}]*\\}|\\*\\s*as\\s+[\\w$]+';
const STATEMENT = new RegExp(
  `import\\s*(?:(${NAMES})(?:\\s*,\\s*(${NAMES}))?\\s*from\\s*)?(["'])([^"'\\n]+)\\3\\s*;?`,
  'y',
);

// Turns one `import` statement into declarations with `await`.
function declaration(first, second, name) {
  const found = `await __toolbox_import(${JSON.stringify(name)})`;
  const parts = [first, second].filter(Boolean);
  if (parts.length === 0) return `${found};`;
  return parts
    .map((part) => {
      if (part.startsWith('*')) return `const ${part.replace(/^\*\s*as\s+/, '')} = ${found};`;
      if (part.startsWith('{')) {
        return `const ${part.replace(/([\w$]+)\s+as\s+([\w$]+)/g, '$1: $2')} = ${found};`;
      }
      return `const { default: ${part} } = ${found};`;
    })
    .join(' ');
}

// Returns where a string, template, or comment that begins at `at` ends.
function skipped(code, at) {
  const two = code.slice(at, at + 2);
  if (two === '//' || two === '/*') {
    const end = code.indexOf(two === '//' ? '\n' : '*/', at + 2);
    return end < 0 ? code.length : end + (two === '//' ? 0 : 2);
  }
  const quote = code[at];
  if (quote !== '"' && quote !== "'" && quote !== '`') return at;
  for (let end = at + 1; end < code.length; end += 1) {
    if (code[end] === '\\') end += 1;
    else if (code[end] === quote) return end + 1;
    else if (code[end] === '\n' && quote !== '`') return end;
  }
  return code.length;
}

// Turns `import`, as statement and as call, into what can be evaluated.
function withoutImports(code) {
  if (!code.includes('import')) return code;
  let made = '';
  let fresh = true;
  for (let at = 0; at < code.length; ) {
    const end = skipped(code, at);
    if (end > at) {
      made += code.slice(at, end);
      if (!/^\/[/*]/.test(code.slice(at, at + 2))) fresh = false;
      at = end;
      continue;
    }
    const word = /[\w$.]+/y;
    word.lastIndex = at;
    const found = word.exec(code);
    if (found === null) {
      if (/[\n;}]/.test(code[at])) fresh = true;
      else if (/\S/.test(code[at])) fresh = false;
      made += code[at];
      at += 1;
      continue;
    }
    STATEMENT.lastIndex = at;
    const statement = found[0] === 'import' && fresh ? STATEMENT.exec(code) : null;
    if (statement !== null) {
      made += declaration(statement[1], statement[2], statement[4]);
      // As many lines as before, for the numbers in traces.
      made += '\n'.repeat(statement[0].split('\n').length - 1);
      at += statement[0].length;
    } else {
      const isCall = found[0] === 'import' && /^\s*\(/.test(code.slice(at + 6));
      made += isCall ? '__toolbox_import' : found[0];
      at += found[0].length;
      fresh = false;
    }
  }
  return made;
}

function withoutTypes(code) {
  const strip = module.stripTypeScriptTypes;
  if (strip === undefined) {
    throw new Error('typescript needs node 22.13 or newer; this is ' + process.version);
  }
  const { emitWarning } = process;
  process.emitWarning = () => {};
  try {
    // Enums and namespaces need more than to be left out.
    return strip(code, { mode: 'transform' });
  } catch (error) {
    if (error?.code !== 'ERR_INVALID_ARG_VALUE') throw error;
    return strip(code, { mode: 'strip' });
  } finally {
    process.emitWarning = emitWarning;
  }
}

let interrupt = () => {};
process.on('SIGINT', () => interrupt());

// Evaluates code; returns the inspector's answer, or throws when it was interrupted.
async function evaluate(code) {
  const interrupted = new Error('interrupted');
  interrupted.name = 'Interrupted';
  const stopped = new Promise((_, reject) => {
    interrupt = () => reject(interrupted);
  });
  stopped.catch(() => {});
  let answer;
  const question = {
    expression: code,
    replMode: true,
    awaitPromise: true,
    silent: true,
    objectGroup: GROUP,
  };
  hide('__toolbox_evaluate', () => {
    answer = new Promise((resolve) => {
      session.post('Runtime.evaluate', question, (failed, result) => {
        resolve(result ?? { failed });
      });
    });
  });
  try {
    // Only code that is run so can be interrupted while it does not wait for anything.
    vm.runInThisContext('__toolbox_evaluate()', { breakOnSigint: true });
    const told = await Promise.race([answer, stopped]);
    if (told.failed) throw told.failed;
    return told;
  } catch (error) {
    throw error?.code === 'ERR_SCRIPT_EXECUTION_INTERRUPTED' ? interrupted : error;
  } finally {
    interrupt = () => {};
    delete globalThis.__toolbox_evaluate;
  }
}

// Returns the value that an answer of the inspector stands for.
function valueOf(remote) {
  if (remote.objectId === undefined) {
    if (remote.unserializableValue === undefined) return remote.value;
    return vm.runInThisContext(`(${remote.unserializableValue})`);
  }
  let value;
  hide('__toolbox_take', (each) => {
    value = each;
  });
  session.post('Runtime.callFunctionOn', {
    objectId: remote.objectId,
    functionDeclaration: 'function (each) { __toolbox_take(each) }',
    arguments: [{ objectId: remote.objectId }],
    silent: true,
  });
  delete globalThis.__toolbox_take;
  return value;
}

// -- what is told ------------------------------------------------------------------------

const cut = (text, size) =>
  text.length > size ? `${text.slice(0, size / 2)}\n[...]\n${text.slice(-size / 2)}` : text;
const whole = (text) => (text.toWellFormed ? text.toWellFormed() : text);

function inspected(value) {
  try {
    return typeof value === 'string' ? value : util.inspect(value);
  } catch {
    return '<cannot be shown>';
  }
}

function failureOf(error, line) {
  if (!util.types.isNativeError(error) && !(error instanceof Error)) {
    const value = cut(whole(inspected(error)), VALUE_MAX);
    return { name: 'Uncaught', value, traceback: `Uncaught ${value}\n` };
  }
  const name = String(error.name);
  const message = String(error.message);
  const frames = String(error.stack ?? '')
    .split('\n')
    .filter((each) => /^\s+at (.*\()?<anonymous>:\d+:\d+/.test(each) || isOwn(each))
    .map((each) => each.replace(/<anonymous>:(\d+:\d+)/, '<stdin>:$1'));
  if (frames.length === 0 && line !== undefined) frames.push(`    at <stdin>:${line + 1}`);
  const traceback = [`${name}: ${message}`, ...frames, ''].join('\n');
  return {
    name: cut(whole(name), VALUE_MAX),
    value: cut(whole(message), VALUE_MAX),
    traceback: cut(whole(traceback), TRACEBACK_MAX),
  };
}

function isOwn(frame) {
  return /^\s+at /.test(frame) && frame.includes('/') && !/node:|node_modules|node_worker/.test(frame);
}

function show(type, value) {
  const data = {};
  if (typeof value === 'object' && value !== null) {
    try {
      const text = JSON.stringify(value);
      if (text !== undefined && text.length <= JSON_MAX) {
        data['application/json'] = JSON.parse(whole(text));
      }
    } catch {
      // It has no form in JSON.
    }
  }
  tell({ type, text: cut(whole(inspected(value)), TEXT_MAX), data, files: {} });
}

// -- runs --------------------------------------------------------------------------------

let running = false;
let rich = false;

hide('display', (...values) => {
  for (const each of values) {
    if (rich && running) show('display', each);
    else console.log(each);
  }
});
process.exit = () => {
  throw { [EXIT]: true };
};

function late(error) {
  // Of a timer, or a promise that nobody waits for: the context goes on.
  if (error?.[EXIT] !== true) process.stderr.write(`Uncaught ${inspected(error)}\n`);
}
process.on('uncaughtException', late);
process.on('unhandledRejection', late);

async function outcome(code) {
  try {
    const typeless = language === 'typescript' ? withoutTypes(code) : code;
    const answer = await evaluate(withoutImports(typeless));
    if (answer.exceptionDetails !== undefined) {
      const { exception, lineNumber } = answer.exceptionDetails;
      const error = valueOf(exception);
      return error?.[EXIT] === true ? null : failureOf(error, lineNumber);
    }
    if (rich && answer.result.type !== 'undefined') show('result', valueOf(answer.result));
    return null;
  } catch (error) {
    return failureOf(error);
  } finally {
    session.post('Runtime.releaseObjectGroup', { objectGroup: GROUP });
  }
}

async function run(request) {
  mark = request.mark;
  rich = request.rich;
  restore();
  const before = Object.keys(request.envs).map((name) => [name, process.env[name]]);
  for (const [name, value] of Object.entries(request.envs)) setVariable(name, value);
  running = true;
  const error = await outcome(request.code);
  running = false;
  for (const [name, value] of before) setVariable(name, value);
  tell({ type: 'done', error });
}

function setVariable(name, value) {
  if (value === undefined || value === null) delete process.env[name];
  else process.env[name] = value;
}

// -- requests ----------------------------------------------------------------------------

let received = Buffer.alloc(0);
let parts = [];
let part = '';
let turn = Promise.resolve();

function take(request) {
  // What came before for another run belongs to an agent that is gone.
  if (request.run !== part) parts = [];
  part = request.run;
  if (request.part !== undefined) {
    parts.push(request.part);
    writeAll(control, '{"type":"more"}\n');
    return;
  }
  request.code = parts.join('') + request.code;
  parts = [];
  turn = turn.then(() => {
    writeAll(control, '{"type":"begun"}\n');
    return run(request);
  });
}

const socket = new net.Socket({ fd: requests, readable: true, writable: false });
socket.on('data', (chunk) => {
  received = Buffer.concat([received, chunk]);
  while (received.length >= 4) {
    const size = received.readUInt32BE(0);
    if (received.length < 4 + size) break;
    const request = JSON.parse(received.subarray(4, 4 + size).toString());
    received = received.subarray(4 + size);
    take(request);
  }
});
socket.on('end', () => ownExit(0));
socket.on('error', () => ownExit(LOST_DESCRIPTORS));
