/**
 * `bosun fleet`: the pods of a deployment on a terminal. Pure from the primary's list to text.
 */
import { table } from './table.ts';

export interface Member {
  pod: string;
  version: string;
  state: string;
  generation: number;
  workers: number;
  wanted: number;
  requestsPerSecond: number;
  p99Ms: number;
  silentSeconds: number;
  isSelf: boolean;
}

/** A pod tells of itself once a second. */
const SILENT_S = 3;

export function renderFleet(pods: readonly Member[]): string {
  return table([
    ['pod', 'version', 'state', 'gen', 'workers', 'req/s', 'p99', ''],
    ...pods.map(pod => [
      pod.pod,
      pod.version,
      pod.state,
      String(pod.generation),
      `${pod.workers} of ${pod.wanted}`,
      pod.requestsPerSecond.toFixed(1),
      `${pod.p99Ms} ms`,
      pod.isSelf ? 'this pod' : pod.silentSeconds > SILENT_S ? `silent for ${Math.round(pod.silentSeconds)} s` : '',
    ]),
  ]);
}
