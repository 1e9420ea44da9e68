/**
 * The services of one Redis that are named after their package: a renamed package keeps the name that it has had in Redis, so that nobody is
 * logged out. With SERVICE_NAME set nothing of this is read.
 */
import { createHash } from 'node:crypto';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Config } from '../config/config.ts';
import { packageOf, type Service } from '../config/service.ts';
import { isServiceName } from '../config/service-name.ts';
import { list, object, string } from '../protocol/shapes.ts';
import type { RedisClient } from './redis.ts';
import { isInUse, unlessForbidden } from './redis-keys.ts';
import { registryKey, rootOf } from './redis-names.ts';

/** What Redis keeps for each name of a package. */
interface Entry {
  /** The name in Redis: an earlier one, if the package was renamed. */
  name: string;
  /** Hashes: of its folder and module, of its package.json without name and version, and of its hosts. */
  folder: string;
  manifest: string;
  hosts: string[];
}

const MAX_ENTRIES = 1000;
const MAX_HOSTS = 16;

const hash = string(64);
const entry = object<Entry>({ name: string(63), folder: hash, manifest: hash, hosts: list(hash, MAX_HOSTS) });

/**
 * The name in Redis of a service that is named after its package. One that Redis does not know is a renamed one if a known one has its folder
 * and module, and two of these: its package.json but for name and version, its host, and no pod that runs now. Otherwise it is another app.
 * @throws if Redis fails
 */
export async function registeredName(redis: RedisClient, service: Service, config: Config): Promise<string> {
  const key = registryKey(config.sessionCookie);
  const size = await unlessForbidden(() => redis.hlen(key), MAX_ENTRIES);
  // Without permission, or where others have filled it, a package cannot be renamed.
  if (size >= MAX_ENTRIES) return service.name;
  const entries = new Map(Object.entries(await redis.hgetall(key)).flatMap(([name, text]) => entryOf(name, text)));
  const self = selfOf(service);
  const own = entries.get(service.name);
  if (own !== undefined) {
    const [host = ''] = self.hosts;
    if (own.hosts.includes(host)) return own.name;
    const hosts = [...own.hosts, host].slice(-MAX_HOSTS);
    await redis.hset(key, service.name, JSON.stringify({ ...own, hosts }));
    return own.name;
  }
  const earlier = await earlierName(redis, self, [...entries.values()], config);
  await redis.hsetnx(key, service.name, JSON.stringify({ ...self, name: earlier ?? service.name }));
  const [stored] = entryOf(service.name, (await redis.hget(key, service.name)) ?? '');
  return stored?.[1].name ?? service.name;
}

async function earlierName(
  redis: RedisClient,
  { folder, manifest, hosts: [host = ''] }: Entry,
  entries: readonly Entry[],
  config: Config,
): Promise<string | undefined> {
  const names = new Set<string>();
  for (const each of entries) {
    if (each.folder !== folder) continue;
    const signs = [each.manifest === manifest, each.hosts.includes(host)].filter(Boolean).length;
    const isIdle = signs === 1 && !(await isInUse(redis, rootOf(each.name, config.sessionCookie), config));
    if (signs === 2 || isIdle) names.add(each.name);
  }
  // Of two it could be either.
  const [name, ...others] = names;
  return others.length === 0 ? name : undefined;
}

function selfOf({ name, directory, module }: Service): Entry {
  const manifest = packageOf(join(directory, module));
  return {
    name,
    folder: hashOf([directory, module]),
    manifest: hashOf({ ...manifest, name: undefined, version: undefined }),
    hosts: [hashOf(hostname())],
  };
}

const hashOf = (value: unknown) => createHash('sha256').update(JSON.stringify(value)).digest('base64url').slice(0, 22);

/** Malformed entries are ignored: anyone who can write to Redis can change them. */
function entryOf(name: string, text: string): [[string, Entry]] | [] {
  try {
    const parsed = entry(JSON.parse(text), name);
    return isServiceName(parsed.name) ? [[name, parsed]] : [];
  } catch {
    return [];
  }
}
