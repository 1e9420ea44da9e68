/**
 * Secrets from variables and files, and REDIS_URL, which contains one. A byte order mark, line endings and quotes around a value are removed, and
 * invalid values are refused.
 * No error message of this file contains any part of a secret, or a path that does not exist: it may be a secret in the wrong variable.
 */
import { closeSync, constants, existsSync, fstatSync, openSync, readSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { Expected, type Parser } from './parse.ts';

/** Secrets from files reach the workers in one environment variable, and Linux takes 128 KiB for each. */
export const MAX_SECRET_BYTES = 16 << 10;
/** PATH_MAX of Linux. */
const MAX_PATH_LENGTH = 4096;

/** Removes a byte order mark, surrounding line endings, and one pair of quotes, which `docker --env-file` and YAML leave. */
function unwrap(value: string): string {
  const bare = value.replace(/^\uFEFF/, '').replace(/^[\r\n]+|[\r\n]+$/g, '');
  const [, quoted] = /^"([^"]*)"$/.exec(bare) ?? /^'([^']*)'$/.exec(bare) ?? [];
  return quoted ?? bare;
}

/** A user, a password or a token: one line, unchanged. */
export const credential: Parser<string> = value => {
  const found = unwrap(value);
  if (found === '') throw new Expected('non-empty text');
  if (/[\r\n]/.test(found)) throw new Expected('a single line');
  if (/\p{Cc}/u.test(found)) throw new Expected('text without control characters');
  // Node.js replaces invalid UTF-8 with it.
  if (found.includes('\uFFFD') || !found.isWellFormed()) throw new Expected('valid UTF-8');
  if (found.trim() !== found) throw new Expected('text without leading or trailing white space');
  if (/^(["']).*\1$/.test(found) && found.length > 1) throw new Expected('text without surrounding quotes');
  return found;
};

/** A credential that is used unchanged in a header. */
export const bearerToken: Parser<string> = value => {
  const found = credential(value);
  if (!/^[\x21-\x7e]+$/.test(found)) throw new Expected('printable ASCII characters without spaces');
  return found;
};

/** Keys, separated by commas or line ends. */
export const keyList: Parser<string[]> = value => {
  const lines = unwrap(value)
    .split(/[\r\n]/)
    .map(line => line.trim())
    .filter(line => line !== '');
  const keys = lines.flatMap(line => line.replace(/,$/, '').split(','));
  if (keys.length === 0 || keys.some(key => key.trim() === ''))
    throw new Expected('a list separated by commas or lines, without empty entries');
  return keys.map(key => credential(key.trim()));
};

/** A new key for sessions: 256 random bits, URL-safe. */
export function generateSessionKey(): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString('base64url');
}

/** Reads a small text file, regular, in UTF-8. @throws Expected, which completes "X must be …, got …" */
export function readSmallFile(path: string, maxBytes: number): string {
  const what = `the path of a readable file of at most ${maxBytes} bytes of UTF-8 text`;
  const refuse = (got: string) => new Expected(`${what}, got ${got}`);
  let file: number;
  try {
    // Without O_NONBLOCK, opening a pipe without a writer would block.
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw refuse(`${visible(path)}: ${(error as NodeJS.ErrnoException).code}`);
  }
  try {
    const stat = fstatSync(file);
    if (!stat.isFile()) throw refuse(`${visible(path)}: ${stat.isDirectory() ? 'EISDIR' : 'not a regular file'}`);
    const bytes = Buffer.alloc(maxBytes + 1);
    let length = 0;
    for (let read = -1; read !== 0 && length < bytes.length; length += read)
      read = readSync(file, bytes, length, bytes.length - length, null);
    if (length > maxBytes) throw refuse(`${visible(path)}, which is larger`);
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, length));
  } catch (error) {
    if (error instanceof Expected) throw error;
    const { code } = error as NodeJS.ErrnoException;
    throw refuse(`${visible(path)}: ${code === 'ERR_ENCODING_INVALID_ENCODED_DATA' ? 'not UTF-8' : code}`);
  } finally {
    closeSync(file);
  }
}

/** A path for an error message: only the part that exists. */
function visible(path: string): string {
  if (path.length > MAX_PATH_LENGTH) return `a path of more than ${MAX_PATH_LENGTH} characters`;
  const whole = resolve(path);
  if (existsSync(whole)) return JSON.stringify(whole);
  let folder = dirname(whole);
  while (!existsSync(folder) && folder !== dirname(folder)) folder = dirname(folder);
  return `a path that does not exist below ${JSON.stringify(folder)}`;
}

/** A bundle of all public authorities has about 220 KB. */
const MAX_CA_BYTES = 1 << 20;

/** The content of a file of PEM certificates. @throws Expected */
export function certificatesOf(path: string): string {
  const pem = readSmallFile(path, MAX_CA_BYTES);
  // Loaded only here: most primaries need no certificate.
  const { X509Certificate } = process.getBuiltinModule('node:crypto');
  try {
    new X509Certificate(pem);
    return pem;
  } catch {
    throw new Expected(`a file of PEM certificates, got ${JSON.stringify(path)}, which has none`);
  }
}

const DEFAULT_PORT = 6379;

/** The address of a Redis server, and its login if the URL has one. */
export interface RedisAddress {
  tls: boolean;
  username: string | undefined;
  password: string | undefined;
  host: string;
  port: number;
  db: number;
  /** 4 or 6: only this version of IP; 0: both. */
  family: number;
}

/** The login ends at the last `@`: passwords may contain unescaped `#`, `/`, `?` and `@`. */
const SHAPE =
  /^(?<scheme>rediss?):\/\/(?:(?<login>.*)@)?(?:\[(?<v6>[\da-f:.]+)\]|(?<host>[\p{L}\p{N}._-]*))(?::(?<port>\d{1,5}))?(?:\/(?<db>\d{0,5}))?(?:\?family=(?<family>[046]))?$/iu;

/**
 * Parses `redis://[user:password@]host[:port][/db]`, or `rediss://` for TLS. The host may be empty: REDIS_HOST names it then. ioredis does not: it would take an unknown scheme for a file path
 * and a non-numeric path for database 0, and its errors would contain the whole URL with its password.
 * @throws Expected
 */
export function parseRedisUrl(text: string): RedisAddress {
  const { scheme, login, v6, host = v6, port, db, family } = SHAPE.exec(credential(text))?.groups ?? {};
  if (scheme === undefined || host === undefined || Number(port ?? DEFAULT_PORT) < 1 || Number(port ?? 0) > 65535)
    throw new Expected('redis://[user:password@]host[:port][/db] or rediss://…, db a whole number');
  const [, username, colon, password] = /^([^:]*)(:?)(.*)$/.exec(login ?? '') ?? [];
  return {
    tls: scheme.toLowerCase() === 'rediss',
    username: username ? decode(username) : undefined,
    password: colon && (username || password) ? decode(password ?? '') : undefined,
    host,
    port: Number(port ?? DEFAULT_PORT),
    db: Number(db ?? 0),
    family: Number(family ?? 0),
  };
}

/** A `%` that is not an escape is refused: it would be unclear whether others in the same password are escapes. */
function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new Expected('a URL with each % in user and password written as %25, and other escapes in UTF-8');
  }
}

/** The URL of an address; without its port where that is undefined. */
export function formatRedisUrl({
  tls,
  username = '',
  password,
  host,
  port,
  db,
  family,
}: Omit<RedisAddress, 'port'> & { port: number | undefined }): string {
  const secret = password === undefined ? '' : `:${encodeURIComponent(password)}`;
  const login = username || secret ? `${encodeURIComponent(username)}${secret}@` : '';
  const where = `${host.includes(':') ? `[${host}]` : host}${port === undefined ? '' : `:${port}`}`;
  return `${tls ? 'rediss' : 'redis'}://${login}${where}${db === 0 ? '' : `/${db}`}${family === 0 ? '' : `?family=${family}`}`;
}

/** The URL in its standard form. */
export const redisUrl: Parser<string> = text => {
  const address = parseRedisUrl(text);
  return formatRedisUrl({ ...address, port: address.port === DEFAULT_PORT ? undefined : address.port });
};
