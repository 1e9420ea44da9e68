/**
 * Renders the pages as a Git host does, without syntax of their own: the same anchors, links between files, pictures for two colour schemes,
 * and no meaning for braces.
 */
import { relative } from 'node:path';
import type { MarkdownOptions } from 'vitepress';
import { PAGES, ROOT, siteLink } from './pages.ts';
import { bothSchemes, slugify } from './texts.ts';

type Renderer = Parameters<NonNullable<MarkdownOptions['config']>>[0];

export const asOnTheHost: MarkdownOptions = {
  anchor: { slugify },
  attrs: { disable: true },
  // Each colour has the contrast that WCAG requires.
  theme: { light: 'github-light-high-contrast', dark: 'github-dark-high-contrast' },
  config: renderer => {
    rewriteLinks(renderer);
    splitPictures(renderer);
    escapeBraces(renderer);
  },
};

function rewriteLinks(renderer: Renderer): void {
  renderer.core.ruler.push('site-links', ({ tokens, env }) => {
    const page = relative(ROOT, env.realPath ?? env.path);
    if (!PAGES.includes(page)) return;
    for (const { attrs } of tokens.flatMap(({ children }) => children ?? []))
      for (const attr of attrs ?? []) if (attr[0] === 'href') attr[1] = siteLink(page, attr[1]);
  });
}

function splitPictures(renderer: Renderer): void {
  renderer.core.ruler.push('site-pictures', ({ tokens }) => {
    for (const token of tokens) if (token.type === 'html_block') token.content = bothSchemes(token.content);
  });
}

/** Two braces begin an expression in a template of Vue. */
function escapeBraces(renderer: Renderer): void {
  const plain = renderer.renderer.rules.text;
  renderer.renderer.rules.text = (...args) => (plain?.(...args) ?? '').replaceAll('{{', '&#123;&#123;');
}
