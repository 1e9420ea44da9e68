/**
 * The dashboard as one self-contained answer: markup, styles, uPlot and our scripts, put together at the first request. The
 * Content-Security-Policy names the hashes of exactly these and allows one connection, back to this port.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { EXIT_REASONS, type ExitReason, isFailure } from '../protocol/exit.ts';
import type { Answer } from './server.ts';

const FOLDER = join(import.meta.dirname, 'dashboard');
/** Exits that the page shows in the colour of a failure. */
const BAD_ENDS = Object.keys(EXIT_REASONS).filter(reason => isFailure(reason as ExitReason));
/** In the order in which they run. */
const SCRIPTS = ['format.js', 'workers.js', 'fleet.js', 'plots.js', 'page.js'];

let page: Answer | undefined;

export function dashboardPage(): Answer {
  page ??= assemble();
  return page;
}

function assemble(): Answer {
  const uplot = dirname(createRequire(import.meta.url).resolve('uplot/package.json'));
  const own = (file: string) => readFileSync(join(FOLDER, file), 'utf8');
  const style = `${readFileSync(join(uplot, 'dist', 'uPlot.min.css'), 'utf8')}\n${own('style.css')}`;
  const script = [
    readFileSync(join(uplot, 'dist', 'uPlot.iife.min.js'), 'utf8'),
    `(() => {\n'use strict';\nconst BAD_ENDS = ${JSON.stringify(BAD_ENDS)};\n${SCRIPTS.map(own).join('\n')}\n})();`,
  ].join('\n');
  const policy = [
    "default-src 'none'",
    `script-src ${hash(script)}`,
    `style-src ${hash(style)}`,
    "connect-src 'self'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ];
  // Functions: a `$&` in a script is no reference.
  const text = own('page.html')
    .replace('/*style*/', () => style)
    .replace('/*script*/', () => script);
  const headers = {
    'Content-Security-Policy': policy.join('; '),
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
  };
  return { contentType: 'text/html; charset=utf-8', text, headers };
}

const hash = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
