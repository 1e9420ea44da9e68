/**
 * A result on a terminal. Pure.
 */
import { table } from '../cli/render.ts';
import { failuresOf, type Result, type Run } from './result.ts';

export function renderText(result: Result): string {
  const { scenario, target, runs, problems, interrupted } = result;
  return [
    `${scenario} on ${target}${interrupted ? ', ended early by Ctrl-C' : ''}`,
    '',
    table([
      ['run', 'requests', 'per second', 'p50', 'p90', 'p99', 'p99.9', 'max', 'failed'],
      ...runs.map(run => [
        run.label,
        String(run.requests),
        run.rate.toFixed(0),
        ...[run.latencyMs.p50, run.latencyMs.p90, run.latencyMs.p99, run.latencyMs.p99_9, run.latencyMs.max].map(
          ms => `${ms.toFixed(ms < 10 ? 2 : 0)} ms`,
        ),
        String(failuresOf(run)),
      ]),
    ]),
    ...runs.flatMap(run => details(run, runs.length > 1)),
    '',
    ...(problems.length > 0 ? problems.map(problem => `FAILED: ${problem}`) : ['passed']),
  ].join('\n');
}

function details(run: Run, named: boolean): string[] {
  const total = run.workers.reduce((sum, { requests }) => sum + requests, 0);
  const failures = Object.entries(run.failures).map(([kind, count]) => `${count} × ${kind}`);
  const restarts = Object.entries(run.restarts).map(([reason, count]) => `${count} ${reason}`);
  const { count, finishedRequests, cutRequests } = run.drains;
  return [
    '',
    ...(named ? [run.label] : []),
    ...(failures.length > 0 ? [`failures: ${failures.join(', ')}`] : []),
    ...(total > 0
      ? [`workers: ${run.workers.map(({ id, pid, requests }) => `${id} (${pid}) ${percent(requests / total)}`).join(', ')}`]
      : []),
    ...(restarts.length > 0 ? [`ended workers: ${restarts.join(', ')}`] : []),
    ...(count > 0 ? [`drains: ${count}, ${finishedRequests} requests finished in them, ${cutRequests} cut`] : []),
    ...(run.throttledSeconds ? [`CPU withheld by the quota: ${run.throttledSeconds} s`] : []),
    ...(run.generatorUtilization > 0.9
      ? [`the load generator was ${percent(run.generatorUtilization)} busy: the server could do more`]
      : []),
    ...run.notes,
  ];
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}
