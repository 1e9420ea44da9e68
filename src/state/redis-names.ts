/**
 * Names in Redis: how they are made from the name of a service. Every key and channel of the kit begins with a root: `shop:koa:sess` for the
 * service `shop`, `koa:sess` without a service's name, as in version 0.1.0. Does not load ioredis: every primary loads this file.
 */
import { NO_NAME } from '../config/service-name.ts';

/** @param service its name, or `none` */
export const rootOf = (service: string, sessionCookie: string) =>
  service === NO_NAME ? sessionCookie : `${service}:${sessionCookie}`;

/** The key under which Redis keeps which names the service uses. */
export const recordKey = (root: string) => `${root}:service`;
export const sessionKeysKey = (root: string) => `${root}:keys`;
export const retainedKey = (root: string) => `${root}:retained`;
/** The lock of a leader, and its last token: in a Cluster on one server. */
export const leaderKeys = (root: string, name: string): [lock: string, token: string] => [
  `${root}:leader:{${name}}:lock`,
  `${root}:leader:{${name}}:token`,
];
/** The key of the services that are named after a package; it belongs to all of them. */
export const registryKey = (sessionCookie: string) => `${sessionCookie}:services`;

/** Channels are not part of a database: two apps in two databases of one Redis must not receive each other's messages. */
export const inDatabase = (name: string, database: number) => (database === 0 ? name : `${name}@${database}`);

const NOT_SESSIONS = ['keys', 'retained', 'service', 'services', 'journal', 'leader'];

/** Whether a key that begins with `root` is that of a session. */
export function isSessionKey(key: string, root: string): boolean {
  const name = key.slice(root.length + 1);
  return !NOT_SESSIONS.some(other => name === other || name.startsWith(`${other}@`) || name.startsWith(`${other}:`));
}
