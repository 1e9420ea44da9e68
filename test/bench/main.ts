/**
 * `make bench`: all of these, one table, one JSON. ONLY=startup,peers chooses.
 */
import { keepAlive } from './keepalive.ts';
import { observe } from './observe.ts';
import { peers, peerVersions } from './peers.ts';
import { report } from './report.ts';
import { resolve } from './resolve.ts';
import { startUp } from './startup.ts';

const BENCHMARKS = { startup: startUp, keepalive: keepAlive, observe, resolve, peers };

const chosen = (process.env.ONLY ?? Object.keys(BENCHMARKS).join()).split(',');
const wrong = chosen.filter(name => !(name in BENCHMARKS));
if (wrong.length > 0) throw new Error(`ONLY: expected some of ${Object.keys(BENCHMARKS).join(', ')}, got ${wrong.join(', ')}`);
await report(
  Object.entries(BENCHMARKS).flatMap(([name, benchmark]) => (chosen.includes(name) ? [benchmark] : [])),
  chosen.includes('peers') ? peerVersions() : {},
);
