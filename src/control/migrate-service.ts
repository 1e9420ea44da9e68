/**
 * `bosun service migrate`: completes a change of the service's name. Until then pods read the old names, and pods without SERVICE_NAME_BEFORE,
 * also of version 0.1.0, can run beside the others. Here every session is copied; then, in two steps that every pod confirms, reads move to the
 * new names, and writes to the old ones stop. Those are deleted: an old pod that returns must not find a session that has been destroyed since.
 */
import type { Config } from '../config/config.ts';
import { NO_NAME } from '../config/service-name.ts';
import type { EventBus } from '../state/event-bus.ts';
import type { RedisClient } from '../state/redis.ts';
import { keysBelow } from '../state/redis-keys.ts';
import { isSessionKey, recordKey, registryKey, rootOf, sessionKeysKey } from '../state/redis-names.ts';
import { type NameInUse, recordName, type ServiceNames } from '../state/service-names.ts';
import { copySession } from '../state/session-copy.ts';
import { untilAllHaveRead } from './rotate-keys.ts';
import { ControlError, type OnStep } from './socket.ts';

/** Copied at a time: a million sessions take minutes, and Redis serves other clients meanwhile. */
const BATCH_SIZE = 100;

let isRunning = false;

export interface MigrateOptions {
  /** Leave the old names as they are, because other apps use them, and do not wait for the pods of those. */
  keep: boolean;
  /** Interval between the two announcements of a step; tests shorten it. */
  resendEveryMs?: number;
}

/**
 * @throws ControlError if there is nothing to change, a pod does not take part, or Redis is unavailable
 */
export async function migrateService(
  config: Config,
  eventBus: EventBus,
  options: MigrateOptions,
  onStep: OnStep,
): Promise<{ service: string; sessions: number }> {
  const { redis, names } = eventBus;
  if (redis === undefined || names?.inUse === undefined)
    throw new ControlError(409, 'the names of this service are not known; a change needs Redis');
  const { inUse } = names;
  if (inUse.name === names.name)
    throw new ControlError(409, `the names in Redis are those of ${names.name} already; remove SERVICE_NAME_BEFORE if it is set`);
  if (!names.isChanging)
    throw new ControlError(409, `set SERVICE_NAME_BEFORE=${inUse.name} in every pod first; each then writes to both names`);
  if (isRunning) throw new ControlError(409, 'another migration is running');
  isRunning = true;
  try {
    return await migrate(config, eventBus, { redis, names, inUse, ...options }, onStep);
  } finally {
    isRunning = false;
  }
}

interface Change extends MigrateOptions {
  redis: RedisClient;
  names: ServiceNames;
  inUse: NameInUse;
}

async function migrate(config: Config, eventBus: EventBus, change: Change, onStep: OnStep) {
  const { redis, names, inUse, keep, resendEveryMs } = change;
  const { name, ownRoot } = names;
  const before = rootOf(inUse.name, config.sessionCookie);
  const isOurs = ({ service }: { service?: string }) => !keep || service === name;
  const refuseOthers = () => {
    const other = eventBus.peers.find(peer => isOurs(peer) && (peer.service !== name || !peer.isChangingName));
    if (other === undefined) return;
    throw new ControlError(
      409,
      `${other.pod} (version ${other.version}) still writes only to the old names: restart it with SERVICE_NAME=${name} and ` +
        `SERVICE_NAME_BEFORE=${inUse.name}; if it belongs to another app that keeps these names, use --keep`,
    );
  };
  refuseOthers();
  let sessions = 0;
  // A migration that was interrupted after this step continues.
  if (!inUse.isMoving) {
    sessions = await copyAll(redis, before, ownRoot);
    onStep(`${sessions} sessions exist under both names`);
    const keys = await redis.get(sessionKeysKey(before));
    if (keys !== null) await redis.set(sessionKeysKey(ownRoot), keys);
    await eventBus.storeRetained();
    refuseOthers();
    await recordName(redis, ownRoot, { name: inUse.name, isMoving: true });
  }
  await untilAllHaveRead(
    eventBus,
    'some pods read the new names, all write to both, and nobody is logged out',
    isOurs,
    resendEveryMs,
  );
  onStep(`every worker reads the names of ${name}`);
  await recordName(redis, ownRoot, { name, isMoving: false });
  await untilAllHaveRead(eventBus, 'the old names still exist', isOurs, resendEveryMs);
  onStep('no worker writes to the old names');
  if (!keep) {
    await removeAll(redis, before, config.sessionCookie);
    onStep(`the old names (${inUse.name === NO_NAME ? 'without a service' : inUse.name}) are deleted`);
  }
  return { service: name, sessions };
}

/** Makes the sessions below `to` those below `from`. @returns how many there are */
async function copyAll(redis: RedisClient, from: string, to: string): Promise<number> {
  // What an earlier change has left, which was undone: sessions may have been destroyed since.
  await forEachSession(redis, to, id => copySession(redis, `${from}:${id}`, `${to}:${id}`));
  return forEachSession(redis, from, id => copySession(redis, `${from}:${id}`, `${to}:${id}`));
}

async function forEachSession(redis: RedisClient, root: string, run: (id: string) => Promise<void>): Promise<number> {
  let count = 0;
  for await (const keys of keysBelow(redis, root)) {
    const ids = keys.filter(key => isSessionKey(key, root)).map(key => key.slice(root.length + 1));
    for (let at = 0; at < ids.length; at += BATCH_SIZE) {
      const results = await Promise.allSettled(ids.slice(at, at + BATCH_SIZE).map(run));
      for (const result of results) {
        if (result.status === 'fulfilled') count++;
        // A key of another program, which is no string.
        else if (!String(result.reason).includes('WRONGTYPE')) throw result.reason;
      }
    }
  }
  return count;
}

async function removeAll(redis: RedisClient, root: string, sessionCookie: string): Promise<void> {
  const kept = new Set([registryKey(sessionCookie)]);
  for await (const keys of keysBelow(redis, root))
    await Promise.all(keys.filter(key => !kept.has(key) && key !== recordKey(root)).map(key => redis.unlink(key)));
  await redis.unlink(recordKey(root));
}
