/** Every drawn picture of the documentation: how it is drawn, and its alternative text. */
import { connectionsPicture, gatesOf } from './balancing.ts';
import { balancingFacts, balancingTable, deadlines, ports, restartTimes, sizingFacts } from './facts.ts';
import { mapPicture } from './map.ts';
import { policiesPicture } from './measured.ts';
import { sizingPicture } from './sizing.ts';
import { LOOKS, type Look, suffixOf } from './svg.ts';
import { restartPicture, shutdownPicture } from './timelines.ts';

interface Picture {
  draw(look: Look): string;
  /** What the picture says, for those who do not see it. */
  alt: string;
}

/** By the beginning of their file names in docs/pictures. */
export function pictures(): Record<string, Picture> {
  const { names, measured } = balancingTable();
  const { delaySeconds, timeoutSeconds, graceSeconds } = deadlines();
  const { proveSeconds, quietSeconds } = restartTimes();
  const { cpus, limitMib, workers, heapMib, shares } = sizingFacts();
  const { app, admin } = ports();
  const accepting = (policy: 'rr' | 'least-connections' | 'response-time') => (gatesOf(policy)?.indexOf(true) ?? -1) + 1;
  return {
    connections: {
      draw: look => connectionsPicture(look, balancingFacts()),
      alt: `Three workers with the same loads under each policy. rr, least-connections and response-time: one queue in the kernel, the loads on the scoreboard, and the accept gate open for worker ${accepting('rr')}, ${accepting('least-connections')} and ${accepting('response-time')} only. none: one queue and every gate open. reuseport: a queue for each worker`,
    },
    map: {
      draw: look => mapPicture(look, ports()),
      alt: `A load balancer sends requests to port ${app} of each pod, whose workers accept them. The primary of the pod supervises its workers, answers the platform and Prometheus on admin port ${admin}, and bosun on the control socket. Workers store sessions in Redis, primaries exchange events through it`,
    },
    policies: {
      draw: look => policiesPicture(look, names, measured),
      alt: 'The same table as a plot: for each measurement and policy a bar from minimum to maximum with the median, on a scale on which rr is 1',
    },
    restart: {
      draw: look => restartPicture(look, restartTimes()),
      alt: `A rolling restart of two workers: each new worker starts and serves for ${proveSeconds} s beside the old one, which then drains. New connections and open requests are served throughout; an open connection moves to the new worker between two requests. One that cannot move ends after an answer, or ${quietSeconds} s without a request`,
    },
    sizing: {
      draw: look => sizingPicture(look, sizingFacts()),
      alt: `${cpus} CPUs and ${limitMib} MiB give ${workers} workers with a heap of ${heapMib} MiB each. The rest of the memory: ${shares.primary} MiB for the primary, ${Math.round(shares.young + shares.rest)} MiB beside the heap of each worker, ${shares.starting} MiB free for a worker that starts during a restart, ${Math.round(shares.kernel)} MiB for the kernel`,
    },
    timeline: {
      draw: look => shutdownPicture(look, deadlines()),
      alt: `From SIGTERM to the exit: not ready at once, and new connections served for ${delaySeconds} seconds. Then the listener closes and open requests are answered; what is open after ${delaySeconds + timeoutSeconds} seconds is aborted, and the platform kills after ${graceSeconds}`,
    },
  };
}

/** The text of every file, by its name. */
export function drawn(): Map<string, string> {
  return new Map(
    Object.entries(pictures()).flatMap(([name, { draw }]) =>
      LOOKS.map(look => [`${name}${suffixOf(look)}`, draw(look)] as const),
    ),
  );
}

/** How a page shows a picture. @param folder the path from the page to docs/pictures */
export function markupOf(name: string, alt: string, folder: string): string {
  const file = (isNarrow: boolean, scheme: 'light' | 'dark') => `${folder}/${name}${suffixOf({ isNarrow, scheme })}`;
  const [narrow, dark] = ['(max-width: 600px)', '(prefers-color-scheme: dark)'];
  return [
    '<picture>',
    `  <source media="${dark} and ${narrow}" srcset="${file(true, 'dark')}">`,
    `  <source media="${dark}" srcset="${file(false, 'dark')}">`,
    `  <source media="${narrow}" srcset="${file(true, 'light')}">`,
    `  <img alt="${alt}" src="${file(false, 'light')}">`,
    '</picture>',
  ].join('\n');
}
