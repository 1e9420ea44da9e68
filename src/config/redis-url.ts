/**
 * REDIS_URL: `redis://[user:password@]host[:port][/db]`, or `rediss://` for TLS. Read here and not by ioredis, which takes an unknown scheme for a
 * file path and a non-numeric path for database 0, and puts the whole URL with its password into its errors.
 */
import { Expected, type Parser } from './parse.ts';
import { credential } from './secrets.ts';

const DEFAULT_PORT = 6379;

/** The address of a Redis, and its login; undefined if the URL has none. */
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
  /^(?<scheme>rediss?):\/\/(?:(?<login>.*)@)?(?:\[(?<v6>[\da-f:.]+)\]|(?<host>[\p{L}\p{N}._-]+))(?::(?<port>\d{1,5}))?(?:\/(?<db>\d{0,5}))?(?:\?family=(?<family>[046]))?$/iu;

/** @throws Expected */
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

/** The URL in its standard form. */
export const redisUrl: Parser<string> = text => {
  const { tls, username = '', password, host, port, db, family } = parseRedisUrl(text);
  const secret = password === undefined ? '' : `:${encodeURIComponent(password)}`;
  const login = username || secret ? `${encodeURIComponent(username)}${secret}@` : '';
  const where = `${host.includes(':') ? `[${host}]` : host}${port === DEFAULT_PORT ? '' : `:${port}`}`;
  return `${tls ? 'rediss' : 'redis'}://${login}${where}${db === 0 ? '' : `/${db}`}${family === 0 ? '' : `?family=${family}`}`;
};
