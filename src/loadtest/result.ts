/**
 * What a load test found: plain data, as it stands in result.json. The renderers know nothing else.
 */
export interface Result {
  /** Of this shape. */
  format: 1;
  scenario: string;
  command: string;
  startedAt: string;
  target: string;
  environment: Record<string, string>;
  runs: Run[];
  /** Why the test failed; empty where it passed. */
  problems: string[];
  /** Ctrl-C came before its end. */
  interrupted: boolean;
}

/** One measurement; `policies` has one per policy, each put together from its rounds. */
export interface Run {
  label: string;
  seconds: number;
  /** Answered as they should be. */
  requests: number;
  rate: number;
  latencyMs: Latency;
  /** Percentile (0 to 100) and milliseconds, rising. */
  curve: [number, number][];
  failures: Record<string, number>;
  slices: Slice[];
  events: LifecycleEvent[];
  workers: WorkerShare[];
  restarts: Record<string, number>;
  drains: { count: number; finishedRequests: number; cutRequests: number };
  usage: Usage[];
  /** CPU time that the quota withheld; null where no file tells. */
  throttledSeconds: number | null;
  /** 0 to 1: near 1 the generator was the limit, not the server. */
  generatorUtilization: number;
  notes: string[];
}

export interface Latency {
  mean: number;
  p50: number;
  p90: number;
  p99: number;
  p99_9: number;
  max: number;
}

/** A slice of time; latencies are null where nothing was answered. */
export interface Slice {
  atSeconds: number;
  rate: number;
  failures: number;
  p50Ms: number | null;
  p99Ms: number | null;
}

export interface LifecycleEvent {
  atSeconds: number;
  kind: 'restart' | 'ready' | 'draining' | 'exited' | 'killed' | 'load';
  text: string;
}

/** Connections handed to a worker can't be seen from outside; its answers can. */
export interface WorkerShare {
  id: number;
  pid: number;
  generation: number;
  requests: number;
}

export interface Usage {
  atSeconds: number;
  /** CPU cores used by primary and workers; null where their /proc is not this machine's. */
  cores: number | null;
  /** Mean event loop utilization of the workers, 0 to 1. */
  loop: number;
}

export function failuresOf(run: Pick<Run, 'failures'>): number {
  return Object.values(run.failures).reduce((sum, count) => sum + count, 0);
}
