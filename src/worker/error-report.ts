/**
 * Turns any thrown value into a report for the primary. Nothing here throws, even if reading the value does.
 */
import { statSync } from 'node:fs';
import { isAbsolute, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ErrorReport, ErrorSummary } from '../protocol/messages.ts';

/** Not imported: that loads all of util, which opens stderr and makes the app's own writes to it fail with EAGAIN when the pipe is full. */
const { inspect } = process.getBuiltinModule('node:util');

/** The app module is missing, throws, or has a wrong export. The message names the file and what was expected. */
export class AppError extends Error {
  override readonly name = 'AppError';
  /** A retry would fail in the same way: by default where there is no cause, because then the module itself is wrong. */
  readonly isPermanent: boolean;
  /** The part of the message that has no text of the app, and may be shown anywhere. */
  readonly own: string | undefined;
  readonly #isOwn = true;

  /** Runs no code of `thrown`, which may be any value. */
  static is(thrown: unknown): thrown is AppError {
    return typeof thrown === 'object' && thrown !== null && #isOwn in thrown && thrown.#isOwn;
  }

  /** The stack has no frames: they would be the kit's, and those of the app are in the cause. */
  constructor(message: string, options: ErrorOptions & { isPermanent?: boolean; own?: string } = {}) {
    super(message, options);
    this.own = options.own;
    this.isPermanent = options.isPermanent ?? options.cause === undefined;
    this.stack = `AppError: ${message}`;
  }
}

/** A retry would fail in the same way: files or settings are missing or wrong, or a port or file belongs to another process or user. */
const PERMANENT_CODES: ReadonlySet<string> = new Set([
  'EADDRINUSE',
  'EACCES',
  'MODULE_NOT_FOUND',
  'ERR_DLOPEN_FAILED',
  'ERR_IMPORT_ATTRIBUTE_MISSING',
  'ERR_INVALID_MODULE_SPECIFIER',
  'ERR_INVALID_PACKAGE_CONFIG',
  'ERR_INVALID_PACKAGE_TARGET',
  'ERR_INVALID_TYPESCRIPT_SYNTAX',
  'ERR_LEADER_NEEDS_REDIS',
  'ERR_MODULE_NOT_FOUND',
  'ERR_PACKAGE_IMPORT_NOT_DEFINED',
  'ERR_PACKAGE_PATH_NOT_EXPORTED',
  'ERR_REQUIRE_ASYNC_MODULE',
  'ERR_REQUIRE_ESM',
  'ERR_UNKNOWN_BUILTIN_MODULE',
  'ERR_UNKNOWN_FILE_EXTENSION',
  'ERR_UNSUPPORTED_DIR_IMPORT',
  'ERR_UNSUPPORTED_ESM_URL_SCHEME',
  'ERR_UNSUPPORTED_NODE_MODULES_TYPE_STRIPPING',
  'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX',
]);

const MAX_CAUSES = 5;
const MAX_STACK_CHARS = 16_000;
const MAX_MESSAGE_CHARS = 4000;
const MAX_OWN_CHARS = 500;
/** Names and codes are shown everywhere: anything else may be text of the app. */
const NAME = /^[\w$.-]{1,64}$/;

/** Reports an error. `isPermanent` if the caller knows that a retry would fail in the same way. */
export function reportOf(thrown: unknown, isPermanent = false): ErrorReport {
  const chain = causesOf(thrown);
  return {
    message: messageOf(thrown),
    stack: clip(
      chain
        .map(stackOf)
        .filter(stack => stack !== '')
        .join('\ncaused by: '),
      MAX_STACK_CHARS,
    ),
    summary: summaryOf(chain),
    isPermanent: isPermanent || chain.some(error => PERMANENT_CODES.has(textOf(error, 'code')) || isBadSource(error)),
  };
}

/** For the log: plain strings of bounded length. pino reads the fields of an error, and its getters may throw; the type of this one is its name. */
export function loggable(thrown: unknown): { message: string; stack: string; code?: string } {
  const { message, stack, summary } = reportOf(thrown);
  const nameless: object = Object.create(null, { name: { value: summary.class } });
  return Object.assign(nameless, { message, stack, ...(summary.code !== undefined && { code: summary.code }) });
}

/** The message of a thrown value, or the value as text; at most 4,000 characters. */
export function messageOf(thrown: unknown): string {
  const message = isObject(thrown) ? textOf(thrown, 'message') : String(thrown);
  return clip(message || inspected(thrown), MAX_MESSAGE_CHARS);
}

/** Runs no code of the value. */
function inspected(thrown: unknown): string {
  try {
    return inspect(thrown, { depth: 1, breakLength: Number.POSITIVE_INFINITY, maxStringLength: 500, customInspect: false });
  } catch {
    return `an unprintable value of type ${typeof thrown}`;
  }
}

/** A slice alone would keep the whole string in memory. */
function clip(text: string, max: number): string {
  return text.length <= max ? text : `${Buffer.from(text.slice(0, max)).toString()}… (${text.length} characters)`;
}

/** The error and its causes, outermost first. */
function causesOf(thrown: unknown): unknown[] {
  const chain = [thrown];
  for (let cause = read(thrown, 'cause'); cause !== undefined && chain.length <= MAX_CAUSES; cause = read(cause, 'cause'))
    chain.push(cause);
  return chain;
}

/** A SyntaxError of the loader, whose first frame is Node's own. One of JSON.parse or `new RegExp` depends on what is read. */
function isBadSource(error: unknown): boolean {
  if (textOf(error, 'name') !== 'SyntaxError') return false;
  // A file of JSON that is imported or required is parsed by the loader.
  const firstFrame = /^\s+at (?!(?:JSON\.)?parse \(<anonymous>\)).*$/m.exec(textOf(error, 'stack'))?.[0];
  return firstFrame?.includes('(node:internal/modules/') ?? false;
}

/** Without the frames of the kit, which called the app. An AppError has no frames, and its message is reported beside the stack. */
function stackOf(error: unknown): string {
  if (AppError.is(error)) return '';
  const rows = (textOf(error, 'stack') || messageOf(error)).split('\n');
  return rows.filter(row => !(/^\s+at /.test(row) && row.includes(import.meta.dirname))).join('\n');
}

/** Describes the innermost error that has a code, else the innermost. Errors of the kit wrap the app's. */
function summaryOf(chain: readonly unknown[]): ErrorSummary {
  const withCode = chain.findLast(error => NAME.test(textOf(error, 'code')));
  const name = classOf(withCode ?? chain.at(-1));
  const code = textOf(withCode, 'code');
  const place = chain.map(placeOf).findLast(found => found !== undefined);
  const own = chain.find(AppError.is)?.own;
  return {
    ...(own !== undefined && { own: clip(own, MAX_OWN_CHARS) }),
    class: NAME.test(name) ? name : 'Error',
    ...(code !== '' && { code }),
    ...place,
  };
}

/** By its constructor: many classes do not set `name`, and an app may put any text there. */
function classOf(error: unknown): string {
  const name = textOf(read(error, 'constructor'), 'name');
  return name === '' || name === 'Error' ? textOf(error, 'name') : name;
}

/** The first frame of the app's own code, or the file that can't be parsed. */
export function placeOf(error: unknown): { file: string; line: number } | undefined {
  for (const row of textOf(error, 'stack').split('\n')) {
    const [, path = '', line] = /^(?:\s+at .*?)?\(?((?:file:\/\/)?\/[^():]+):(\d+)(?::\d+)?\)?$/.exec(row) ?? [];
    if (path === '' || path.includes('/node_modules/') || path.includes(import.meta.dirname)) continue;
    const file = fileOf(path);
    // A message may look like a line of a stack: without a file it is text of the app.
    if (file !== undefined) return { file: fromCwd(file), line: Number(line) };
  }
  return undefined;
}

function fileOf(path: string): string | undefined {
  try {
    const file = path.startsWith('file:') ? fileURLToPath(path) : path;
    return statSync(file).isFile() ? file : undefined;
  } catch {
    return undefined;
  }
}

function fromCwd(file: string): string {
  try {
    const near = relative(process.cwd(), file);
    return near.startsWith('..') || isAbsolute(near) ? file : near;
  } catch {
    return file; // the working directory no longer exists
  }
}

const isObject = (value: unknown): value is object =>
  (typeof value === 'object' && value !== null) || typeof value === 'function';

function read(value: unknown, key: string): unknown {
  try {
    return isObject(value) ? Reflect.get(value, key) : undefined;
  } catch {
    return undefined; // a getter that throws
  }
}

function textOf(value: unknown, key: string): string {
  const text = read(value, key);
  return typeof text === 'string' ? text : '';
}
