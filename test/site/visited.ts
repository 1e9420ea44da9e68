/** What is wrong with a page of the site in a browser. The checks themselves run in the page (in-page.js). */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { ROOT } from '../process/kit.ts';

const CHECKS = readFileSync(join(import.meta.dirname, 'in-page.js'), 'utf8');
const AXE = join(ROOT, 'docs', 'site', 'node_modules', 'axe-core', 'axe.min.js');
const OPTIONS = {
  resultTypes: ['violations'],
  preload: false,
  runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'],
  // Experimental, and against the keys that the theme shows on its search button.
  rules: { 'label-content-name-mismatch': { enabled: false } },
};

interface AxeResults {
  violations: { id: string; help: string; nodes: { html: string; failureSummary?: string }[] }[];
}

/** Geometry: nothing scrolls sideways, leaves the screen or lies over something else, and text is large enough. */
export async function layoutProblems(page: Page): Promise<string[]> {
  await page.evaluate(CHECKS);
  return page.evaluate<string[]>('siteChecks.layout()');
}

/** Pictures: each is shown once, in the variant of the colour scheme, with an alternative text, and with legible text. */
export async function pictureProblems(page: Page, scheme: 'light' | 'dark'): Promise<string[]> {
  await page.evaluate(CHECKS);
  return page.evaluate<string[]>(`siteChecks.pictures('${scheme}')`);
}

/** Names, roles and structure, by axe. */
export function accessibilityProblems(page: Page): Promise<string[]> {
  return violations(page, { ...OPTIONS, rules: { ...OPTIONS.rules, 'color-contrast': { enabled: false } } });
}

/** The rows of a table are alike, and axe takes seconds for a long one. */
const FEW_ROWS = '.vp-doc tr:nth-child(n + 12) { display: none }';

/** The contrast of every text, by axe: slow. Hides the later rows of long tables. */
export async function contrastProblems(page: Page): Promise<string[]> {
  await page.addStyleTag({ content: FEW_ROWS });
  return violations(page, { resultTypes: ['violations'], preload: false, runOnly: ['color-contrast'] });
}

async function violations(page: Page, options: object): Promise<string[]> {
  await page.addScriptTag({ path: AXE });
  const { violations } = await page.evaluate<AxeResults>(`axe.run(${JSON.stringify(options)})`);
  return violations.flatMap(({ id, help, nodes }) =>
    nodes.map(({ html, failureSummary = '' }) => `${id}: ${help}: ${html.slice(0, 120)}: ${failureSummary.replace(/\s+/g, ' ')}`),
  );
}
