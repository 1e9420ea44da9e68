/**
 * `bosun keys rotate`: a new session key for all pods, and nobody is logged out. In two steps, because a cookie that one worker signs with the
 * new key may be the next moment with another one: first all of them verify with it, then they sign with it.
 */
import type { Config } from '../../config.ts';
import { KEYS_EVENT } from '../../messages.ts';
import { addSessionKey, promoteSessionKey } from '../../state/session-keys.ts';
import { OPERATOR, type Relay } from '../relay.ts';
import { ControlError, type Tell } from './control-socket.ts';

/** For every worker of every pod to read the keys again; one that can't will when it connects to Redis again. */
const SPREAD_MS = 2000;

/** Only one at a time, in this pod; two pods' rotations only add two keys. */
let isRotating = false;

/** @throws ControlError where the keys are not ours to change, or Redis is away */
export async function rotateKeys(config: Config, relay: Relay, tell: Tell): Promise<{ keys: number }> {
  if (config.sessionKeys !== undefined)
    throw new ControlError(409, 'the session keys are given by SESSION_KEYS: put the new one first there, and restart every pod');
  const { redis } = relay;
  if (redis === undefined)
    throw new ControlError(409, 'the session keys are of this start only: with Redis they are shared, and can be rotated');
  if (isRotating) throw new ControlError(409, 'a rotation is on its way');
  isRotating = true;
  try {
    const key = await addSessionKey(redis, config.sessionCookie);
    await readAgain(relay);
    tell('every worker verifies with the new key');
    const keys = await promoteSessionKey(redis, config.sessionCookie, key);
    await readAgain(relay);
    tell(`every worker signs with it; ${keys - 1} older ${keys === 2 ? 'one verifies' : 'ones verify'}`);
    return { keys };
  } finally {
    isRotating = false;
  }
}

async function readAgain(relay: Relay): Promise<void> {
  const { otherPods } = relay.broadcast({ event: KEYS_EVENT, json: 'null' }, OPERATOR);
  if ((await otherPods) !== 'sent') throw new ControlError(409, 'Redis is away: try again when it is back');
  await new Promise(resolve => setTimeout(resolve, SPREAD_MS));
}
