/**
 * The rules of docker/alerts.yml fire when they must, and only then: promtool of the Prometheus in compose.yaml evaluates them over the
 * series of ../alert-cases.ts.
 */
import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse, stringify } from 'yaml';
import { CASES, type Series } from '../alert-cases.ts';
import { ALERTS, alertRules } from '../alert-rules.ts';
import { ROOT } from '../process/kit.ts';
import { docker, withEngine } from './engine.ts';

const INTERVAL = '15s';

/** When a case without an alert is looked at. */
const ALWAYS = ['615s', '630s', '11m', '12m', '13m', '14m', '15m'];

/** What promtool expects of one alert over some series: `alerts` at each of these times. */
const expectation = (name: string, series: Series, alertname: string, at: readonly string[], alerts: object[]) => ({
  name,
  interval: INTERVAL,
  input_series: Object.entries(series).map(([labels, values]) => ({ series: labels, values })),
  alert_rule_test: at.map(eval_time => ({ eval_time, alertname, exp_alerts: alerts })),
});

/** All cases, as promtool reads them. */
function expectations(): object[] {
  return alertRules().flatMap(({ alert, labels: { severity }, annotations: { runbook_url } }) => {
    const { fires, alsoFires = {}, quiet } = CASES[alert] ?? assert.fail(`no cases of ${alert}`);
    const alerts = [{ exp_labels: { severity, ...fires.labels }, exp_annotations: { summary: fires.summary, runbook_url } }];
    return [
      ...Object.entries({ fires: fires.series, ...alsoFires }).map(([why, series]) =>
        expectation(`${alert}, ${why}`, series, alert, [fires.at], alerts),
      ),
      ...Object.entries(quiet).map(([why, series]) => expectation(`${alert}, ${why}`, series, alert, ALWAYS, [])),
    ];
  });
}

test('each alert rule fires with the series that it is for, and not with similar ones', withEngine, async t => {
  const folder = mkdtempSync(join(tmpdir(), 'alerts-'));
  copyFileSync(ALERTS, join(folder, 'alerts.yml'));
  writeFileSync(
    join(folder, 'cases.yml'),
    stringify({ rule_files: ['alerts.yml'], evaluation_interval: INTERVAL, tests: expectations() }),
  );
  const { image } = parse(readFileSync(join(ROOT, 'compose.yaml'), 'utf8')).services.prometheus as { image: string };
  const container = await docker([
    'create',
    '--network',
    'none',
    '--user',
    '0',
    '--entrypoint',
    'promtool',
    image,
    'test',
    'rules',
    '/rules/cases.yml',
  ]);
  t.after(async () => {
    await docker(['rm', '--force', container]);
    rmSync(folder, { recursive: true });
  });
  await docker(['cp', '--quiet', `${folder}/.`, `${container}:/rules`]);
  assert.match(await docker(['start', '--attach', container]), /SUCCESS$/);
});
