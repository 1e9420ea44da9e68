/**
 * docker/alerts.yml: what it names exists, each alert has a section in docs/guide/alerts.md, and its copies for Kubernetes are equal to it.
 * What the rules do is shown by promtool: container/promtool.test.ts.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { CASES } from './alert-cases.ts';
import { ALERTS, type AlertRule, alertRules } from './alert-rules.ts';
import { rulesOfComponent } from './k8s/chart-files.ts';
import { ROOT } from './process/kit.ts';

const PAGE = readFileSync(join(ROOT, 'docs', 'guide', 'alerts.md'), 'utf8');
const METRICS = readFileSync(join(ROOT, 'docs', 'reference', 'metrics.md'), 'utf8');

const forEachRule = (check: (rule: AlertRule) => void) => alertRules().forEach(check);

test('the rules of the component monitoring are those of docker/alerts.yml', () => {
  const { file, expected } = rulesOfComponent();
  assert.equal(readFileSync(file, 'utf8'), expected, `make k8s-render writes ${file}`);
});

test('alerts name metrics and values of labels that exist', () => {
  forEachRule(({ alert, expr }) => {
    for (const [, name = '', matchers = ''] of expr.matchAll(/\b((?:bosun|http|nodejs|process)_\w+)(?:\{([^}]*)\})?/g)) {
      const row = METRICS.split('\n').find(line => line.startsWith(`| \`${name.replace(/_(?:count|sum|bucket)$/, '')}\``));
      assert.ok(row, `${alert}: docs/reference/metrics.md has no metric ${name}`);
      for (const [, label, values = ''] of matchers.matchAll(/(\w+)=~?"([^"]*)"/g)) {
        assert.ok(row.includes(`\`${label}\``), `${alert}: ${name} has no label ${label}`);
        if (label !== 'status')
          for (const value of values.split('|')) assert.ok(row.includes(`\`${value}\``), `${alert}: ${label}="${value}"`);
      }
    }
  });
});

test('alerts are grouped by app and name none, nor a namespace', () => {
  forEachRule(({ alert, expr, annotations }) => {
    assert.doesNotMatch(expr, /(?:namespace|job|pod)\s*[=!]/, alert);
    assert.match(expr, /by \(namespace, job/, alert);
    assert.match(annotations.summary, /\{\{ \$labels\.(?:job|instance) \}\}/, alert);
  });
});

test('every alert has a section in docs/guide/alerts.md, in the same order, to which its runbook_url points', () => {
  const sections = [...PAGE.matchAll(/^## (Bosun\w+)$/gm)].map(([, name]) => name);
  assert.deepEqual(
    sections,
    alertRules().map(({ alert }) => alert),
  );
  forEachRule(({ alert, annotations }) =>
    assert.equal(
      annotations.runbook_url,
      `https://github.com/koa-bosun/koa-bosun/blob/main/docs/guide/alerts.md#${alert.toLowerCase()}`,
    ),
  );
});

test('every alert has cases in which it fires and in which it does not', () => {
  assert.deepEqual(
    Object.keys(CASES),
    alertRules().map(({ alert }) => alert),
    ALERTS,
  );
});
