/**
 * Parsers: from a variable's text to its value. Each throws an Expected whose message completes the sentence "X must be …".
 */
import { type NetworkInterfaceInfo, networkInterfaces } from 'node:os';

/** The message names what was expected of a value. */
export class Expected extends Error {}

/** @throws Expected */
export type Parser<T> = (text: string) => T;

/** A row of the table of environment variables (variables.ts). */
export interface Variable<T> {
  name: string;
  /** Parsed like a given value; `undefined` if the variable may be unset. */
  fallback: string | undefined;
  parse: Parser<T>;
  /** One line of the table in the documentation. */
  help: string;
  /** The default in that table, if the fallback alone would not be clear. */
  shown?: string;
  /** Read if `name` is unset. */
  alias?: string;
  /** Of a number: what it counts, unless the end of its key says so (`Ms`, `Seconds`, `Bytes`, `Mb`). */
  unit?: string;
  /** May be given as `<name>_FILE`, and its value is never printed. */
  secret?: true;
  /** Of a secret: where the manifests of k8s/ take it from. */
  inManifests?: string;
  /** Of a secret that is no secret alone: an empty value takes back one that is inherited, from a ConfigMap for example. */
  mayBeEmpty?: true;
  /** A rolling restart cannot change it: the primary's sockets, its log and its event bus exist already. */
  fixed?: true;
  /** Fallback outside production. */
  development?: string;
}

type Extra = Pick<
  Variable<unknown>,
  'shown' | 'unit' | 'alias' | 'secret' | 'inManifests' | 'mayBeEmpty' | 'fixed' | 'development'
>;

/** A variable that always has a value. */
export const variable = <T>(name: string, fallback: string, parse: Parser<T>, help: string, extra: Extra = {}): Variable<T> => ({
  name,
  fallback,
  parse,
  help,
  ...extra,
});

/** A variable that may be unset. */
export const optional = <T>(name: string, parse: Parser<T>, help: string, extra: Extra = {}): Variable<T | undefined> => ({
  name,
  fallback: undefined,
  parse,
  help,
  ...extra,
});

/** The configured number of workers (NODE_CLUSTER_WORKERS). `share` is above 0 and at most 1. */
export type WorkerCount =
  | { kind: 'auto' }
  | { kind: 'max' }
  | { kind: 'share'; share: number }
  | { kind: 'count'; count: number };

/** Each worker is a process of about 60 MiB; a larger number is a typing error. */
const MAX_WORKERS = 1024;

export const workerCount: Parser<WorkerCount> = text => {
  if (text === 'auto' || text === 'max') return { kind: text };
  const percent = /^(\d{1,3})%$/.exec(text)?.[1];
  if (percent !== undefined) {
    const share = Number(percent) / 100;
    if (share > 0 && share <= 1) return { kind: 'share', share };
    throw new Expected('a percentage from 1% to 100%');
  }
  const count = /^\d+$/.test(text) ? Number(text) : 0;
  if (count < 1) throw new Expected('"auto", "max", a percentage or a whole number of at least 1');
  if (count > MAX_WORKERS) throw new Expected(`a number of workers of at most ${MAX_WORKERS}`);
  return { kind: 'count', count };
};

/** Any text. An empty value counts as unset and is never parsed. */
export const text: Parser<string> = value => value;

/**
 * The options of NODE_OPTIONS, by the rules of Node.js: spaces separate, double quotes keep spaces, and within them a backslash escapes.
 * @throws Error on an unterminated quote or escape, with which Node.js refuses to start
 */
export function splitNodeOptions(text: string): string[] {
  const options: string[] = [];
  let current: string | undefined;
  let isQuoted = false;
  for (let at = 0; at < text.length; at++) {
    let char = text[at] ?? '';
    if (char === '"') {
      isQuoted = !isQuoted;
      current ??= '';
      continue;
    }
    if (char === ' ' && !isQuoted) {
      if (current !== undefined) options.push(current);
      current = undefined;
      continue;
    }
    if (char === '\\' && isQuoted) {
      at++;
      if (at === text.length) throw new Error('a trailing backslash');
      char = text[at] ?? '';
    }
    current = (current ?? '') + char;
  }
  if (isQuoted) throw new Error('an unterminated quote');
  if (current !== undefined) options.push(current);
  return options;
}

/** Options of Node.js, separated and quoted as in NODE_OPTIONS. */
export const nodeOptions: Parser<string[]> = value => {
  let options: string[];
  try {
    options = splitNodeOptions(value);
  } catch (error) {
    throw new Expected(`Node.js options, but has ${(error as Error).message}`);
  }
  const unknown = options.find(option => option.startsWith('-') && !process.allowedNodeEnvironmentFlags.has(option));
  if (unknown !== undefined) throw new Expected(`options that Node.js accepts in NODE_OPTIONS, but has ${unknown.split('=')[0]}`);
  return options;
};

export function wholeNumber(min: number, max: number = Number.MAX_SAFE_INTEGER): Parser<number> {
  const range = max === Number.MAX_SAFE_INTEGER ? `of at least ${min}` : `from ${min} to ${max}`;
  return value => {
    const number = /^\d{1,16}$/.test(value) ? Number(value) : Number.NaN;
    if (!(number >= min && number <= max)) throw new Expected(`a whole number ${range}`);
    return number;
  };
}

/** setTimeout fires at once above this (Node.js, timers). */
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

export const milliseconds =
  (min = 0): Parser<number> =>
  value => {
    try {
      return wholeNumber(min, MAX_TIMEOUT_MS)(value);
    } catch {
      throw new Expected(`a whole number of milliseconds from ${min} to ${MAX_TIMEOUT_MS}`);
    }
  };

export const port: Parser<number> = value => {
  try {
    return wholeNumber(0, 65535)(value);
  } catch {
    throw new Expected('a port from 0 to 65535');
  }
};

const UNIX = 'unix:';
/** Of the kernel's `sun_path`, without its last byte. */
const MAX_SOCKET_PATH_BYTES = 107;

/** The path of a HOST like `unix:/run/app.sock`; undefined if it is an address. */
export const socketPathOf = (host: string): string | undefined => (host.startsWith(UNIX) ? host.slice(UNIX.length) : undefined);

/** An address or name, or `unix:` and the path of a socket. */
export const host: Parser<string> = value => {
  const path = socketPathOf(value);
  if (path === undefined) return value;
  if (!path.startsWith('/')) throw new Expected('an address, or unix: and an absolute path; abstract sockets have none');
  const bytes = Buffer.byteLength(path);
  if (bytes > MAX_SOCKET_PATH_BYTES)
    throw new Expected(
      `an address, or unix: and a path of at most ${MAX_SOCKET_PATH_BYTES} bytes, as the kernel requires (${bytes})`,
    );
  return value;
};

/** Of a histogram: each is a series for every method and status. */
export const MAX_BUCKETS = 50;

/** Upper bounds of the buckets of a histogram, in seconds: `0.01,0.1,1`. The bucket above all of them is added to every histogram. */
export const bucketBounds: Parser<readonly number[]> = value => {
  const texts = list(value);
  const bounds = texts.map(Number);
  const expected = new Expected(
    `a comma list of at most ${MAX_BUCKETS} numbers of seconds above 0, each larger than the one before`,
  );
  if (bounds.length > MAX_BUCKETS || texts.some(text => !/^\d{1,9}(?:\.\d{1,9})?$/.test(text))) throw expected;
  if (bounds.some((bound, index) => bound <= (bounds[index - 1] ?? 0))) throw expected;
  return Object.freeze(bounds);
};

export const flag: Parser<boolean> = value => {
  if (value === 'true' || value === '1') return true;
  if (value === 'false' || value === '0') return false;
  throw new Expected('"true" or "false"');
};

/** A share from 0 to 1. */
export const sampled: Parser<number> = value => {
  const percent = /^(\d{1,3}(?:\.\d+)?)%$/.exec(value)?.[1];
  if (percent !== undefined && Number(percent) <= 100) return Number(percent) / 100;
  try {
    return flag(value) ? 1 : 0;
  } catch {
    throw new Expected('"true", "false" or a percentage up to 100%');
  }
};

export function anyOf<const T extends string>(choices: readonly T[]): Parser<T> {
  return value => {
    const choice = choices.find(name => name === value);
    if (choice === undefined) throw new Expected(`one of ${choices.map(name => `"${name}"`).join(', ')}`);
    return choice;
  };
}

/** `a,b,c`, spaces around the commas dropped. */
export const list: Parser<string[]> = value => {
  const items = value.split(',').map(item => item.trim());
  if (items.some(item => item === '')) throw new Expected('a comma list without empty entries');
  return items;
};

/** Names without a port. */
export const hostNames: Parser<string[]> = value => {
  const names = list(value);
  if (names.every(name => /^[\w.-]+$/.test(name))) return names;
  throw new Expected('names of hosts without scheme and port, separated by commas');
};

/** A token of RFC 9110; the colon is in koa-session's default. */
export const cookieName: Parser<string> = value => {
  if (!/^[\w!#$%&'*+.^`|~:-]+$/.test(value)) throw new Expected('a cookie name without spaces, commas, semicolons or quotes');
  // Valid only over TLS: over plain HTTP koa-session would fail with each request that sets it.
  if (/^__(Host|Secure)-/i.test(value)) throw new Expected('a cookie name without __Host- or __Secure-, which is added over TLS');
  return value;
};

export interface HostPort {
  host: string;
  port: number;
}

/** `host:port,…`; IPv6 in brackets. */
export const hostPorts: Parser<HostPort[]> = value =>
  list(value).map(entry => {
    const match = /^(?:\[([\da-fA-F:.]+)\]|([^\s:[\]]+)):(\d{1,5})$/.exec(entry);
    const host = match?.[1] ?? match?.[2];
    const number = Number(match?.[3]);
    if (host === undefined || !(number > 0 && number <= 65535)) throw new Expected('a comma list of host:port');
    return { host, port: number };
  });

/** As os.networkInterfaces returns them. */
export type Interfaces = NodeJS.Dict<Pick<NetworkInterfaceInfo, 'family' | 'address' | 'internal'>[]>;

/**
 * Whether this system is reachable over IPv6 but not IPv4. A link-local IPv4 address does not count: pods of IPv6 clusters have one for outgoing traffic.
 * False for a system without any network.
 */
export function isIpv6Only(interfaces: Interfaces): boolean {
  const all = Object.values(interfaces).flatMap(addresses => addresses ?? []);
  const outer = all.filter(({ internal }) => !internal);
  if (outer.some(({ family, address }) => family === 'IPv4' && !address.startsWith('169.254.'))) return false;
  if (outer.some(({ family, address }) => family === 'IPv6' && !address.startsWith('fe80:'))) return true;
  return all.length > 0 && all.every(({ family }) => family === 'IPv6');
}

const IS_IPV6_ONLY = isIpv6Only(networkInterfaces());

/** All interfaces. Not `::` if there is IPv4: clients would appear as `::ffff:10.0.0.1`, which does not match lists of allowed addresses. */
export const ANY_ADDRESS = IS_IPV6_ONLY ? '::' : '0.0.0.0';

export const LOOPBACK_ADDRESS = IS_IPV6_ONLY ? '::1' : '127.0.0.1';

/** As in a URL: IPv6 in brackets. The HOST of a Unix socket as it is. */
export function hostAndPort(host: string, port: number): string {
  if (socketPathOf(host) !== undefined) return host;
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
