/**
 * Pressure stall information: for how long processes of the container had to wait for a CPU, for memory, or for a disk (the kernel's psi.rst).
 */

export const PRESSURE_RESOURCES = ['cpu', 'memory', 'io'] as const;
export type PressureResource = (typeof PRESSURE_RESOURCES)[number];

/** Of one resource. The names are those of cAdvisor's metrics; the kernel calls them `some` and `full`. */
export interface Pressure {
  /** At least one task waited. */
  waiting: Stall;
  /** All tasks that had work waited, so that nothing was done; missing for `cpu` before kernel 5.13. */
  stalled?: Stall;
}

export interface Stall {
  /** Of the last 10 seconds. */
  percent: number;
  /** Since the cgroup was created. */
  totalSeconds: number;
}
