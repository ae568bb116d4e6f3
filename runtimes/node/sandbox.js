"use strict";
// The process of a Node.js handler: rehearses, waits, is bound to a function, and calls it.
//
// It is started in a sandbox that is complete and locked down (runtimes/native), as
//     node --eval THIS_FILE
// and speaks the frames of isolate/wire.h with the agent over fd 3. V8 has threads and cannot be forked,
// so each sandbox of a pool has booted by itself; what is rehearsed is what the engine compiles when it
// first runs.

const fs = require("node:fs");
const net = require("node:net");
const path = require("node:path");
const vm = require("node:vm");
const Module = require("node:module");
const { pathToFileURL } = require("node:url");

const CONN = 3;
const CODE_DIR = "/function";
const HEAD_SIZE = 72; // struct brood_frame_head
const MAX_MESSAGE = 16 << 10; // the agent cuts these again
const MAX_TRACE = 64 << 10;

const BIND = 1, INVOKE = 2, COMPILE = 3;
const READY = 16, LOADED = 17, RESULT = 18, COMPILED = 19;
const FLAG_JSON = 1, FLAG_ERROR = 2, FLAG_INIT = 4, FLAG_MEMORY = 8, FLAG_TOO_LARGE = 16;

const JSON_TYPE = Buffer.from("application/json");
const BYTES_TYPE = Buffer.from("application/octet-stream");
const NOTHING = Buffer.alloc(0);
const NO_STAGES = [0n, 0n, 0n, 0n];

const now = process.hrtime.bigint; // CLOCK_MONOTONIC

// What a handler could change of it is kept as it was.
const { stringify, parse } = JSON;
const exit = process.reallyExit.bind(process);

class InvalidJSON extends Error {}
class HandlerNotFound extends Error {}
InvalidJSON.prototype.name = "InvalidJSON";
HandlerNotFound.prototype.name = "HandlerNotFound";

// --- frames -------------------------------------------------------------------------------------

function frame(kind, flags, invocation, stages, parts) {
  let body = 0;
  for (const part of parts) body += 4 + part.length;
  const bytes = Buffer.allocUnsafe(HEAD_SIZE + body);
  bytes.fill(0, 0, HEAD_SIZE);
  bytes.writeUInt32LE(kind, 0);
  bytes.writeUInt32LE(flags, 4);
  bytes.writeBigUInt64LE(invocation, 8);
  for (let i = 0; i < stages.length; ++i) bytes.writeBigInt64LE(stages[i], 24 + 8 * i);
  if (kind === RESULT) bytes.writeBigInt64LE(now(), 24 + 8 * 4); // encoded
  bytes.writeUInt32LE(parts.length, 64);
  bytes.writeUInt32LE(body, 68);
  let at = HEAD_SIZE;
  for (const part of parts) {
    bytes.writeUInt32LE(part.length, at);
    part.copy(bytes, at + 4);
    at += 4 + part.length;
  }
  return bytes;
}

// Puts frames together from what comes in pieces.
class Frames {
  constructor(take) {
    this.take = take;
    this.pieces = [];
    this.size = 0;
    this.wanted = HEAD_SIZE;
  }

  feed(piece) {
    this.pieces.push(piece);
    this.size += piece.length;
    while (this.size >= this.wanted) {
      let bytes = this.pieces.length === 1 ? this.pieces[0] : Buffer.concat(this.pieces, this.size);
      const whole = HEAD_SIZE + bytes.readUInt32LE(68);
      this.wanted = whole;
      if (this.size < whole) {
        this.pieces = [bytes];
        return;
      }
      const rest = bytes.subarray(whole);
      this.pieces = rest.length > 0 ? [rest] : [];
      this.size = rest.length;
      this.wanted = HEAD_SIZE;
      bytes = bytes.subarray(0, whole);
      this.take({
        kind: bytes.readUInt32LE(0),
        flags: bytes.readUInt32LE(4),
        invocation: bytes.readBigUInt64LE(8),
        deadline: bytes.readBigInt64LE(16),
        woken: now(),
        parts: partsOf(bytes),
      });
    }
  }
}

function partsOf(bytes) {
  const parts = [];
  for (let at = HEAD_SIZE, count = bytes.readUInt32LE(64); count > 0; --count) {
    const length = bytes.readUInt32LE(at);
    parts.push(bytes.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return parts;
}

// --- errors -------------------------------------------------------------------------------------

function isMachinery(line) {
  return line.includes("[eval]") || line.includes("(node:") || line.includes(" node:internal") ||
    line.includes("at Script.runInContext");
}

// An exception, or whatever else was thrown, as the parts of an error: type, message, trace.
function describe(error) {
  try {
    const isError = error instanceof Error || (error !== null && typeof error === "object" && "stack" in error);
    const kind = isError ? String(error.name || error.constructor.name) : typeof error;
    const message = isError ? String(error.message) : String(error);
    const plain = error instanceof InvalidJSON || error instanceof HandlerNotFound;
    const trace = !isError || plain ? "" : String(error.stack).split("\n").filter((line) => !isMachinery(line)).join("\n");
    return [kind.slice(0, 256), message.slice(0, MAX_MESSAGE), trace.slice(0, MAX_TRACE)].map((text) => Buffer.from(text));
  } catch {
    return [Buffer.from("Error"), Buffer.from("(something thrown that cannot be printed)"), NOTHING];
  }
}

function failureOf(error, flags = 0) {
  const memory = error instanceof RangeError && /Array buffer allocation failed|Invalid string length/.test(error.message);
  return { flags: flags | FLAG_ERROR | (memory ? FLAG_MEMORY : 0), parts: describe(error) };
}

// --- loading ------------------------------------------------------------------------------------

// The code cache that was made when the function was deployed; a V8 that is another takes no notice of it.
let prepared = null; // { file, cache }

// As Module.prototype._compile, with a cache for the one file that has one.
const compileAsEver = Module.prototype._compile;
function compileWithCache(content, filename) {
  // An import() has to be resolved from this file, which the engine does only for what it has compiled itself.
  if (prepared === null || prepared.file !== filename || /\bimport\s*\(/.test(content)) return compileAsEver.call(this, content, filename);
  const script = new vm.Script(Module.wrap(content), { filename, cachedData: prepared.cache, importModuleDynamically: importFrom(filename) });
  const wrapped = script.runInThisContext({ displayErrors: true });
  const require = Module.createRequire(filename);
  return Reflect.apply(wrapped, this.exports, [this.exports, require, this, filename, path.dirname(filename)]);
}

function importFrom(filename) {
  return (specifier) => import(specifier.startsWith(".") ? pathToFileURL(path.resolve(path.dirname(filename), specifier)).href : specifier);
}

function moduleFile(name) {
  const base = path.join(CODE_DIR, name);
  for (const candidate of [base + ".js", base + ".mjs", base + ".cjs", path.join(base, "index.js"), path.join(base, "index.mjs")]) {
    if (fs.existsSync(candidate)) return candidate;
  }
  throw new HandlerNotFound(`there is no ${name}.js, .mjs or .cjs in the code`);
}

function isRequireError(error) {
  return error !== null && typeof error === "object" &&
    (error.code === "ERR_REQUIRE_ESM" || (error instanceof SyntaxError && /import statement|Unexpected token 'export'/.test(error.message)));
}

async function load(handler, cache) {
  const dot = handler.lastIndexOf(".");
  const name = handler.slice(0, dot).replaceAll(".", "/");
  const attribute = handler.slice(dot + 1);
  const file = moduleFile(name);
  prepared = cache.length > 0 ? { file, cache } : null;
  let loaded;
  if (file.endsWith(".mjs")) {
    loaded = await import(pathToFileURL(file).href);
  } else {
    try {
      loaded = require(file);
    } catch (error) {
      if (!isRequireError(error)) throw error;
      loaded = await import(pathToFileURL(file).href);
    }
  }
  const found = loaded[attribute] ?? loaded.default?.[attribute];
  if (typeof found !== "function") {
    throw new HandlerNotFound(`module '${name}' has no function '${attribute}' (the handler is '${handler}')`);
  }
  return found;
}

function setEnvironment(block) {
  for (const entry of block.toString().split("\0")) {
    const equals = entry.indexOf("=");
    if (equals > 0) process.env[entry.slice(0, equals)] = entry.slice(equals + 1);
  }
}

// --- calling ------------------------------------------------------------------------------------

class Context {
  #deadline;
  constructor(bound, parts, deadline) {
    this.id = parts[0].toString();
    this.contentType = parts[1].toString("latin1");
    this.functionName = bound.name;
    this.functionVersion = bound.version;
    this.memoryLimitBytes = bound.memory;
    this.#deadline = deadline;
    // As AWS Lambda's context has them.
    this.awsRequestId = this.id;
    this.memoryLimitInMB = String(bound.memory / (1 << 20));
    this.callbackWaitsForEmptyEventLoop = false;
  }
  getRemainingTimeInMillis() {
    const left = this.#deadline - now();
    return left > 0n ? Number(left / 1000000n) : 0;
  }
}

// A handler answers with a value, a promise, or, when it takes three parameters, by its callback.
function call(handler, event, context) {
  if (handler.length < 3) return handler(event, context);
  return new Promise((resolve, reject) => {
    const value = handler(event, context, (error, answer) => (error ? reject(error) : resolve(answer)));
    if (value && typeof value.then === "function") value.then(resolve, reject);
  });
}

function encode(value) {
  if (value instanceof Uint8Array) return { flags: 0, parts: [BYTES_TYPE, Buffer.from(value.buffer, value.byteOffset, value.byteLength)] };
  const text = stringify(value === undefined ? null : value);
  if (text === undefined) throw new TypeError(`a ${typeof value} cannot be answered: it is not JSON`);
  return { flags: FLAG_JSON, parts: [JSON_TYPE, Buffer.from(text)] };
}

function holdToLimit(answer, limit) {
  const size = answer.parts[1].length;
  if (size <= limit) return answer;
  const text = `the answer is ${size} bytes long, over the limit of ${limit} bytes`;
  return { flags: FLAG_ERROR | FLAG_TOO_LARGE, parts: [Buffer.from("ResponseTooLarge"), Buffer.from(text), NOTHING] };
}

function eventOf(payload) {
  if (payload.length === 0) return null;
  try {
    return parse(payload.toString());
  } catch (error) {
    throw new InvalidJSON("the payload is not JSON: " + error.message);
  }
}

// The life of one sandbox. `socket` may be a rehearsal's.
class Life {
  constructor(socket) {
    this.socket = socket;
    this.bound = null;
    this.running = null; // of the invocation under way: fails it
    this.turn = Promise.resolve(); // frames are answered one after the other
  }

  send(kind, flags, invocation, stages, parts) {
    this.socket.write(frame(kind, flags, invocation, stages, parts));
  }

  take(one) {
    this.turn = this.turn.then(() => this.answer(one)).catch((error) => {
      console.error("brood:", error);
      exit(2);
    });
    return this.turn;
  }

  answer(one) {
    if (one.kind === INVOKE && this.bound !== null) return this.invoke(one);
    if (one.kind === BIND && this.bound === null) return this.bind(one);
    if (one.kind === COMPILE && this.bound === null) return this.compile(one);
    throw new Error(`a frame of kind ${one.kind} out of place`);
  }

  async bind(one) {
    const [name, handler, environment, code, limits] = one.parts;
    const bound = {
      name: name.toString(), handler: null, failure: null, woken: one.woken, loaded: 0n,
      memory: Number(limits.readBigUInt64LE(0)), responseLimit: Number(limits.readBigUInt64LE(8)), version: limits.readUInt32LE(20),
    };
    this.bound = bound;
    setEnvironment(Buffer.from(`BROOD_FUNCTION=${bound.name}\0BROOD_FUNCTION_VERSION=${bound.version}\0BROOD_MEMORY_BYTES=${bound.memory}\0`));
    setEnvironment(environment);
    if (process.env.NODE_PATH) Module._initPaths(); // read once, when Node.js started
    try {
      bound.handler = await this.guarded(() => load(handler.toString(), code));
    } catch (error) {
      bound.failure = failureOf(error, FLAG_INIT);
    }
    bound.loaded = now();
    if (bound.failure === null) this.send(LOADED, 0, 0n, NO_STAGES, []);
  }

  // Also fails when something that nobody waits for throws meanwhile.
  guarded(work) {
    return new Promise((resolve, reject) => {
      this.running = reject;
      new Promise((begin) => begin(work())).then(resolve, reject);
    }).finally(() => { this.running = null; });
  }

  async invoke(one) {
    const bound = this.bound;
    let { woken } = one, loaded = 0n, called = 0n, returned = 0n, answer;
    if (bound.woken !== 0n) { // the first one: it began when the bind was read
      [woken, loaded, bound.woken] = [bound.woken, bound.loaded, 0n];
    }
    try {
      if (bound.failure !== null) {
        answer = bound.failure;
      } else {
        const event = (one.flags & FLAG_JSON) !== 0 ? eventOf(one.parts[2]) : Buffer.from(one.parts[2]);
        const context = new Context(bound, one.parts, one.deadline);
        called = now();
        const value = await this.guarded(() => call(bound.handler, event, context));
        returned = now();
        answer = holdToLimit(encode(value), bound.responseLimit);
      }
    } catch (error) {
      if (called !== 0n && returned === 0n) returned = now();
      answer = failureOf(error);
    }
    this.send(RESULT, answer.flags, one.invocation, [woken, loaded, called, returned], answer.parts);
  }

  // A file of the function, which is not run, as the code cache for later binds.
  compile(one) {
    let answer;
    try {
      const file = path.join(CODE_DIR, one.parts[0].toString());
      const script = new vm.Script(Module.wrap(fs.readFileSync(file, "utf8")), { filename: file });
      answer = { flags: 0, parts: [script.createCachedData()] };
    } catch (error) {
      // An ES module by its content alone: there is nothing to prepare.
      answer = isRequireError(error) ? { flags: 0, parts: [NOTHING] } : failureOf(error);
    }
    this.send(COMPILED, answer.flags, one.invocation, NO_STAGES, answer.parts);
  }
}

// --- before the first bind ----------------------------------------------------------------------

const REHEARSED = async (event, context) => {
  const words = new Map();
  for (const word of event.text.split(" ")) words.set(word, (words.get(word) ?? 0) + 1);
  return { words: words.size, left: context.getRemainingTimeInMillis() > 0, time: new Date(0).toISOString() };
};

// Calls a function of brood's own by the very path of a real one: the engine has compiled it by then.
async function rehearse() {
  const sent = [];
  const life = new Life({ write: (bytes) => sent.push(bytes) });
  const frames = new Frames((one) => life.take(one));
  life.bound = {
    name: "rehearsal", handler: REHEARSED, failure: null, woken: 1n, loaded: 1n, memory: 1 << 27, responseLimit: 1 << 20, version: 1,
  };
  const event = Buffer.from(stringify({ text: "the quick brown fox ".repeat(20) }));
  for (let i = 0; i < 4; ++i) {
    const bytes = frame(INVOKE, FLAG_JSON, 1n, NO_STAGES, [Buffer.from("0".repeat(32)), JSON_TYPE, event]);
    bytes.writeBigInt64LE(1n << 62n, 16);
    frames.feed(bytes.subarray(0, 100));
    frames.feed(bytes.subarray(100));
    await life.turn;
  }
  return sent;
}

async function main() {
  Module.prototype._compile = compileWithCache;
  await rehearse();
  const socket = new net.Socket({ fd: CONN, readable: true, writable: true });
  const life = new Life(socket);
  const frames = new Frames((one) => life.take(one));
  for (const event of ["uncaughtException", "unhandledRejection"]) {
    process.on(event, (error) => {
      if (life.running !== null) return life.running(error);
      console.error(error); // between two invocations: it belongs to none
      exit(1);
    });
  }
  socket.on("data", (piece) => frames.feed(piece));
  socket.on("end", () => exit(0));
  socket.on("error", () => exit(0));
  life.send(READY, 0, 0n, [], []);
}

main();
