/**
 * Apps that fork their own workers: in a worker of the kit `cluster.isPrimary` is false, so that most of them serve. The calls that only a primary
 * has do nothing here, where Node.js would fail with "not a function".
 */
import cluster from 'node:cluster';
import { EventEmitter } from 'node:events';

const CALLS = ['fork', 'setupPrimary', `setup${'Mas'}ter`, 'disconnect'];

/** `onCall` gets the name of each call, the first time. Call it before the app is loaded. */
export function disableClusterCalls(onCall: (call: string) => void): void {
  const called = new Set<string>();
  for (const name of CALLS) {
    Reflect.set(cluster, name, () => {
      if (!called.has(name)) onCall(`cluster.${name}()`);
      called.add(name);
      return name === 'fork' ? workerThatNeverStarts() : undefined;
    });
  }
}

/** What `cluster.fork` returns, without a process. */
function workerThatNeverStarts(): EventEmitter {
  const process = Object.assign(new EventEmitter(), { pid: undefined, connected: false, kill: () => false });
  const nothing = () => false;
  const worker = { id: 0, process, send: nothing, kill: nothing, destroy: nothing, disconnect: nothing };
  return Object.assign(new EventEmitter(), worker, { isConnected: nothing, isDead: () => true });
}
