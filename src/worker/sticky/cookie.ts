/**
 * The cookie of NODE_CLUSTER_STICKY=cookie: which worker of which pod a client belongs to. Its value is random, and no secret: it only chooses
 * between the workers of a pod, as a load balancer's cookie does.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { TLSSocket } from 'node:tls';

/** 72 random bits: no client can guess the socket of another worker, and no id is used twice. */
const ID_BYTES = 12;
const ID = '[A-Za-z0-9_-]{16}';

/** The id of one process of a worker: its successor has another one. */
export function newWorkerId(): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(ID_BYTES))).toString('base64url');
}

export interface CookieOptions {
  /** Part of the name: two services of one host keep their cookies apart. */
  service: string;
  /** Letters and digits. */
  pod: string;
  /** The id of this worker. */
  worker: string;
  /** X-Forwarded-Proto is the proxy's (TRUST_PROXY). */
  trustProxy: boolean;
}

export class WorkerCookie {
  readonly name: string;
  readonly #value: string;
  readonly #pattern: RegExp;
  readonly #trustProxy: boolean;

  constructor({ service, pod, worker, trustProxy }: CookieOptions) {
    this.name = `bosun-worker.${service}`;
    this.#value = `${pod}.${worker}`;
    this.#pattern = new RegExp(`(?:^|;) *${this.name.replaceAll('.', '\\.')}=${pod}\\.(${ID}) *(?:;|$)`);
    this.#trustProxy = trustProxy;
  }

  /** The worker of this pod that the cookie names; undefined without one, and for that of another pod. */
  ownerOf({ headers }: IncomingMessage): string | undefined {
    return headers.cookie === undefined ? undefined : this.#pattern.exec(headers.cookie)?.[1];
  }

  /**
   * `response` gets a cookie that names this worker, unless shared caches may store it: they would give one worker's cookie to many clients.
   * Call it before the headers are written.
   */
  giveTo(request: IncomingMessage, response: ServerResponse): void {
    const cookie = this.#textFor(request);
    const { writeHead } = response;
    response.writeHead = function (this: ServerResponse, ...args: unknown[]) {
      if (this.headersSent) return Reflect.apply(writeHead, this, args);
      const given = args.findLastIndex(argument => typeof argument === 'object' && argument !== null);
      const headers = given === -1 ? [] : entriesOf(args[given]);
      const cacheControl = headers.find(([name]) => isNamed(name, 'cache-control'))?.[1] ?? this.getHeader('Cache-Control');
      if (/\b(?:public|s-maxage)\b/i.test(String(cacheControl))) return Reflect.apply(writeHead, this, args);
      const cookies = headers.filter(([name]) => isNamed(name, 'set-cookie')).flatMap(([, value]) => value);
      // The headers of a call replace those that were set before.
      if (cookies.length === 0) this.appendHeader('Set-Cookie', cookie);
      else {
        const others = headers.filter(([name]) => !isNamed(name, 'set-cookie'));
        args[given] = [...others, ['Set-Cookie', [...cookies, cookie]]].flat();
      }
      return Reflect.apply(writeHead, this, args);
    };
  }

  #textFor({ headers, socket }: IncomingMessage): string {
    const [proto = ''] = this.#trustProxy ? String(headers['x-forwarded-proto'] ?? '').split(',', 1) : [];
    const isSecure = (socket as TLSSocket).encrypted || proto.trim().toLowerCase() === 'https';
    // The cookie gives no rights, so other sites may send it: widgets in their pages poll too. Browsers take it from them only over TLS.
    const site = isSecure ? 'SameSite=None; Secure; Partitioned' : 'SameSite=Lax';
    return `${this.name}=${this.#value}; Path=/; HttpOnly; ${site}`;
  }
}

const isNamed = (name: unknown, expected: string) => String(name).toLowerCase() === expected;

/** The names and values of a `writeHead` call, whose headers may be an object, pairs, or a flat array. */
function entriesOf(headers: unknown): [name: unknown, value: unknown][] {
  if (!Array.isArray(headers)) return Object.entries(headers as object);
  if (Array.isArray(headers[0])) return headers as [unknown, unknown][];
  return headers.flatMap((name, index) => (index % 2 === 0 ? [[name, headers[index + 1]] as [unknown, unknown]] : []));
}
