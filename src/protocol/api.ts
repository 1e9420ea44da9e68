/**
 * What leaves the pod as JSON: `/status`, `/events`, the log.
 */
import type { Drain } from './messages.ts';

/** A worker's drain in `/status` and in the log. */
export type DrainReport = Omit<Drain, 'closedGracefully'> & {
  /** Connections that the worker closed between two requests. */
  handedOver: number;
};

export function reportOf<D extends Drain>({
  closedGracefully: handedOver,
  ...drain
}: D): Omit<D, 'closedGracefully'> & DrainReport {
  return { ...drain, handedOver };
}
