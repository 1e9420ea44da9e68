/** What the site makes of the pages, without its packages: `make test-site` builds it. */
import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { descriptionOf, linkedFiles, PAGES, ROOT, sidebar, siteLink, sitePath } from '../docs/site/pages.ts';
import { bothSchemes, slugify } from '../docs/site/texts.ts';

test('the sidebar of the site shows every page of the documentation once', () => {
  const shown = sidebar().flatMap(({ items }) => items.map(({ link }) => `${link.slice(1).replace(/(^|\/)$/, '$1index')}.md`));
  assert.deepEqual(shown.sort(), PAGES.map(sitePath).sort());
  const pages = globSync(['*.md', 'docs/**/*.md'], { cwd: ROOT, exclude: ['docs/site'] });
  assert.deepEqual([...PAGES].sort(), pages.sort());
});

test('every page has a description for search engines, without marks of Markdown', () => {
  for (const page of PAGES) assert.match(descriptionOf(page), /^[^#|`*<]{10,165}$/, page);
});

test('a link between files leads to the page of the site, or to the text of a file that is no page', () => {
  assert.equal(siteLink('README.md', 'docs/guide/adopt.md#in-a-clone'), '/guide/adopt.md#in-a-clone');
  assert.equal(siteLink('docs/guide/adopt.md', '../../README.md'), '/index.md');
  assert.equal(siteLink('docs/guide/adopt.md', '../decisions/README.md'), '/decisions/index.md');
  assert.equal(siteLink('README.md', 'LICENSE'), '/files/LICENSE.md');
  assert.equal(siteLink('README.md', 'k8s/'), '/files/k8s.md');
  for (const same of ['#here', 'https://example.com/a.md']) assert.equal(siteLink('README.md', same), same);
  for (const wrong of ['nothing.md', '../outside.md']) assert.throws(() => siteLink('README.md', wrong), /which does not exist/);
  assert.ok(linkedFiles().some(({ path, content }) => path === 'LICENSE' && content.includes('MIT')));
});

test('anchors are those of GitHub', () => {
  assert.equal(slugify('What happens when …'), 'what-happens-when-');
  assert.equal(slugify("`kit.redis`, and a pod's _own_ part"), 'kitredis-and-a-pods-_own_-part');
});

test('a picture for two colour schemes becomes one picture for each, with its narrow variants', () => {
  const picture = `<picture>
  <source media="(prefers-color-scheme: dark) and (max-width: 600px)" srcset="a-narrow-dark.svg">
  <source media="(prefers-color-scheme: dark)" srcset="a-dark.svg">
  <source media="(max-width: 600px)" srcset="a-narrow-light.svg">
  <img alt="A" src="a-light.svg">
</picture>`;
  const [light = '', dark = ''] = bothSchemes(picture).split(/(?<=<\/picture>)/);
  const sources = (html: string) => [...html.matchAll(/media="(.*?)" srcset="(.*?)"/g)].map(([, media, file]) => [media, file]);
  assert.match(light, /^<picture class="in-light">/);
  assert.deepEqual(sources(light), [['(max-width: 600px)', './a-narrow-light.svg']]);
  assert.match(dark, /^<picture class="in-dark">/);
  assert.deepEqual(sources(dark).slice(0, 2), [
    ['(max-width: 600px)', './a-narrow-dark.svg'],
    ['all', './a-dark.svg'],
  ]);
});

interface Workflow {
  jobs: Record<
    string,
    { 'timeout-minutes'?: number; permissions?: object; steps: { run?: string; uses?: string; with?: { path?: string } }[] }
  >;
}

test('the workflow of the site builds it with make, limits its jobs, and uploads what was built', () => {
  const { jobs } = parse(readFileSync(join(ROOT, '.github', 'workflows', 'site.yaml'), 'utf8')) as Workflow;
  const makefile = readFileSync(join(ROOT, 'Makefile'), 'utf8');
  const steps = Object.values(jobs).flatMap(job => job.steps);
  for (const { run } of steps) if (run !== undefined) assert.match(makefile, new RegExp(`^${run.replace('make ', '')}:`, 'm'));
  for (const { uses } of steps) if (uses !== undefined) assert.match(uses, /^actions\/[a-z-]+@v\d+$/);
  for (const [name, job] of Object.entries(jobs)) assert.ok(job.permissions && job['timeout-minutes'], name);
  const [folder] = steps.flatMap(step => step.with?.path ?? []);
  assert.equal(folder, 'docs/site/dist');
  assert.ok(existsSync(join(ROOT, 'docs', 'site', 'package-lock.json')));
});

test('the lock file of the site names no registry', () => {
  assert.doesNotMatch(readFileSync(join(ROOT, 'docs', 'site', 'package-lock.json'), 'utf8'), /"resolved"|registry/);
});
