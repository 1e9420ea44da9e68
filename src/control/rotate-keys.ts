/**
 * `bosun keys rotate`: a new session key for all pods, and nobody is logged out. In two steps, because a cookie that one worker signs with the
 * new key may be the next moment with another one: first all of them verify with it, then they sign with it.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { Config } from '../config/config.ts';
import { OPERATOR, type Relay } from '../primary/event-bus.ts';
import { KEYS_EVENT } from '../protocol/messages.ts';
import { addSessionKey, promoteSessionKey } from '../state/session-keys.ts';
import { ControlError, type Tell } from './socket.ts';

/** Pods that have died without a goodbye are forgotten before it ends (fleet.ts). */
const PATIENCE_MS = 40_000;
/** A pod says what it has read with its next beat, a second later at most; one that was cut off meanwhile has missed the event. */
const AGAIN_MS = 2500;
const LOOK_EVERY_MS = 100;

/** Only one at a time, in this pod; two pods' rotations only add two keys. */
let isRotating = false;

/** @throws ControlError where the keys are not ours to change, or Redis is away */
export async function rotateKeys(config: Config, relay: Relay, tell: Tell): Promise<{ keys: number }> {
  if (config.sessionKeys !== undefined)
    throw new ControlError(
      409,
      'the session keys come from SESSION_KEYS: add the new one at its end, restart every pod, then move it to the front',
    );
  const { redis } = relay;
  if (redis === undefined)
    throw new ControlError(409, 'the session keys are of this start only: with Redis they are shared, and can be rotated');
  if (isRotating) throw new ControlError(409, 'a rotation is on its way');
  isRotating = true;
  try {
    const key = await addSessionKey(redis, config.sessionCookie);
    await readAgain(relay, 'nothing has changed yet');
    tell('every worker verifies with the new key');
    const keys = await promoteSessionKey(redis, config.sessionCookie, key);
    await readAgain(relay, 'it verifies with the new key and signs with the old one');
    tell(`every worker signs with it; ${keys - 1} older ${keys === 2 ? 'one verifies' : 'ones verify'}`);
    return { keys };
  } finally {
    isRotating = false;
  }
}

/**
 * Resolves when every worker of every pod that we know of has read the keys. Never before the event would be said again: until then a pod that
 * has just started, or we ourselves, may not have been heard of, and its workers may have read the keys before they changed.
 * @throws ControlError
 */
async function readAgain(relay: Relay, otherwise: string): Promise<void> {
  const json = JSON.stringify(randomUUID());
  const deadline = performance.now() + PATIENCE_MS;
  // Kept, since another pod's rotation replaces what the beats tell of ours.
  const haveRead = new Set<string>();
  for (;;) {
    const { otherPods } = relay.broadcast({ event: KEYS_EVENT, json }, OPERATOR);
    if ((await otherPods) !== 'sent') throw new ControlError(409, 'Redis is away: try again when it is back');
    const again = performance.now() + AGAIN_MS;
    while (performance.now() < again) {
      await pause(LOOK_EVERY_MS);
      for (const { origin, keysRead } of relay.members) if (keysRead === json) haveRead.add(origin);
    }
    const missing = relay.members.find(({ origin }) => !haveRead.has(origin));
    if (missing === undefined) return;
    if (performance.now() > deadline)
      throw new ControlError(409, `${missing.pod} has not read the keys: ${otherwise}; try again when it is well`);
  }
}
