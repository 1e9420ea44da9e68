/**
 * `bosun leader NAME`: who leads, and `--release`: another worker is to lead.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Status } from '../protocol/api.ts';
import type { LeaderStatus } from '../protocol/leader.ts';
import { ControlError, type OnStep } from './socket.ts';

/** The start function has 10 s to end, and another worker takes over within a second. */
const RELEASE_TIMEOUT_MS = 12_000;
const POLL_EVERY_MS = 50;

/** What this pod knows of its leaders. */
export interface LeaderReports {
  readonly view: Status['leader'];
  release(name: string): boolean;
}

/** @throws ControlError if no worker of this pod knows that name, or nobody leads */
export async function leaderOf(
  leaders: LeaderReports,
  name: string,
  release: boolean,
  onStep: OnStep,
): Promise<{ name: string } & LeaderStatus> {
  const before = statusOf(leaders, name);
  if (!release) return { name, ...before };
  if (before.holder === null || !leaders.release(name)) throw new ControlError(409, `nobody leads ${name} now`);
  const { token } = before.holder;
  onStep(`${holderText(before.holder)} is giving up`);
  for (const deadline = performance.now() + RELEASE_TIMEOUT_MS; performance.now() < deadline; await sleep(POLL_EVERY_MS)) {
    const now = statusOf(leaders, name);
    if (now.holder !== null && now.holder.token !== token) return { name, ...now };
  }
  const now = statusOf(leaders, name);
  if (now.holder?.token === token)
    throw new ControlError(409, `${holderText(now.holder)} still leads: is Redis available, and does its start function end?`);
  return { name, ...now };
}

function statusOf({ view = {} }: LeaderReports, name: string): LeaderStatus {
  const status = Object.hasOwn(view, name) ? view[name] : undefined;
  if (status !== undefined) return status;
  const names = Object.keys(view).join(', ');
  throw new ControlError(
    404,
    `no worker of this pod has called kit.leader(${JSON.stringify(name)}); there is ${names || 'none'}`,
  );
}

const holderText = ({ pod, worker }: { pod: string; worker: number }) => `worker ${worker} of ${pod}`;
