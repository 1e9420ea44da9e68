import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LogSource } from '../src/log/log.ts';
import { ServiceMonitor } from '../src/primary/service-monitor.ts';

const SHOP = { name: 'store', isGiven: false, app: 'store', directory: '/srv', module: 'app.js' };

test('a renamed package and each other app of the same name are logged once, with what to do', () => {
  const logged: { event: string; app: string; warning: string }[] = [];
  const log = (() => ({ warn: (line: never) => logged.push(line) })) as unknown as LogSource;
  const fleet = { names: undefined as { name: string } | undefined, strangers: [] as string[] };
  const monitor = new ServiceMonitor(SHOP, fleet, log);
  monitor.tick();
  assert.equal(logged.length, 0);
  fleet.names = { name: 'shop' };
  fleet.strangers = ['blog'];
  for (let i = 0; i < 3; i++) monitor.tick();
  assert.deepEqual(
    logged.map(({ event, app }) => [event, app]),
    [
      ['service.renamed', 'store'],
      ['service.shared', 'blog'],
    ],
  );
  const [renamed = '', shared = ''] = logged.map(({ warning }) => warning);
  assert.match(renamed, /are still those of shop: set SERVICE_NAME=shop$/);
  assert.match(shared, /both share sessions.*give one of them another name/);
  for (let i = 0; i < 100; i++) {
    fleet.strangers = [`app${i}`];
    monitor.tick();
  }
  assert.equal(logged.length, 21, 'a bounded number');
});
