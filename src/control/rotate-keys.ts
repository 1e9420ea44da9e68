/**
 * `bosun keys rotate`: a new session key for all pods, without logging anyone out. In two steps, because the next request with a cookie
 * may reach another worker: first every worker verifies with the new key, then they sign with it.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../config/config.ts';
import type { Peer } from '../protocol/api.ts';
import { KEYS_EVENT } from '../protocol/messages.ts';
import { type EventBus, OPERATOR } from '../state/event-bus.ts';
import { addSessionKey, promoteSessionKey } from '../state/session-keys.ts';
import { ControlError, type OnStep } from './socket.ts';

/** Pods that ended without a last heartbeat are forgotten within this time (peers.ts). */
const DEADLINE_MS = 40_000;
/** A pod confirms with its next heartbeat, at most a second later; one that was disconnected has missed the event. */
const RESEND_EVERY_MS = 2500;
const POLL_EVERY_MS = 100;

/** One at a time in this pod; concurrent rotations of two pods only add two keys. */
let isRotating = false;

/** @throws ControlError if the keys come from SESSION_KEYS, are not in Redis, or Redis is unavailable */
export async function rotateKeys(config: Config, eventBus: EventBus, onStep: OnStep): Promise<{ keys: number }> {
  if (config.sessionKeys !== undefined)
    throw new ControlError(
      409,
      'the session keys come from SESSION_KEYS: add the new one at its end, restart every pod, then move it to the front',
    );
  const { redis, names } = eventBus;
  if (redis === undefined || names === undefined)
    throw new ControlError(409, 'session keys are generated at each start; rotation needs Redis');
  if (isRotating) throw new ControlError(409, 'another rotation is running');
  isRotating = true;
  try {
    const { root } = names.roots;
    const key = await addSessionKey(redis, root);
    await untilAllHaveRead(eventBus, 'nothing has changed yet');
    onStep('every worker verifies with the new key');
    const keys = await promoteSessionKey(redis, root, key);
    await untilAllHaveRead(eventBus, 'it verifies with the new key and signs with the old one');
    onStep(`every worker signs with it; ${keys - 1} older ${keys === 2 ? 'one verifies' : 'ones verify'}`);
    return { keys };
  } finally {
    isRotating = false;
  }
}

/**
 * Resolves when every worker of every known pod has read the keys, and the names of the service. Sends the event at least twice: until the second time, a pod that has
 * just started, this one included, may be unknown, and its workers may have read the keys before they changed.
 * @param otherwise what holds if a pod does not confirm
 * @param isWaitedFor of which pods
 * @throws ControlError
 */
export async function untilAllHaveRead(
  eventBus: EventBus,
  otherwise: string,
  isWaitedFor: (peer: Peer) => boolean = () => true,
  resendEveryMs = RESEND_EVERY_MS,
): Promise<void> {
  const json = JSON.stringify(randomUUID());
  const deadline = performance.now() + DEADLINE_MS;
  // Remembered here, because another pod's rotation replaces what the heartbeats confirm of this one.
  const haveRead = new Set<string>();
  for (;;) {
    const { otherPods } = eventBus.broadcast({ event: KEYS_EVENT, json }, OPERATOR);
    if ((await otherPods) !== 'sent') throw new ControlError(409, 'Redis is unavailable; retry once it has recovered');
    const resendAt = performance.now() + resendEveryMs;
    while (performance.now() < resendAt) {
      await sleep(POLL_EVERY_MS);
      for (const { origin, keysRead } of eventBus.peers) if (keysRead === json) haveRead.add(origin);
    }
    const missing = eventBus.peers.find(peer => isWaitedFor(peer) && !haveRead.has(peer.origin));
    if (missing === undefined) return;
    if (performance.now() > deadline)
      throw new ControlError(409, `${missing.pod} has not read the keys: ${otherwise}; retry once it has recovered`);
  }
}
