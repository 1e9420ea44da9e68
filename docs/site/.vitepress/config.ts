/**
 * The site of the documentation: the pages of README.md and docs/, as they are. SITE_BASE is the path that it is served under, such as
 * /koa-bosun/ for a project page; it ends with a slash.
 */
import { cpSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Plugin } from 'vite';
import type { DefaultTheme, UserConfig } from 'vitepress';
import { asOnTheHost } from '../markdown.ts';
import { descriptionOf, linkedFiles, PAGES, ROOT, rawPath, sidebar, sitePath } from '../pages.ts';

const FILE_ROUTE = 'docs/site/files/';

/** The pages are modules that import Vue, and lie above the folder that has it. */
const vueOfTheSite: Plugin = {
  name: 'vue-of-the-site',
  enforce: 'pre',
  resolveId(id, importer, options) {
    if (!/^vue(\/|$)/.test(id) || importer?.endsWith('.md') !== true) return null;
    return this.resolve(id, join(ROOT, 'docs/site/package.json'), { ...options, skipSelf: true });
  },
};

/** Without one, browsers request /favicon.ico of the host. */
const ICON = `data:image/svg+xml,${encodeURIComponent(
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#2563c9"/><g fill="#fff"><rect x="12" y="5" width="8" height="8" rx="2"/><rect x="4" y="19" width="6" height="8" rx="2"/><rect x="13" y="19" width="6" height="8" rx="2"/><rect x="22" y="19" width="6" height="8" rx="2"/></g></svg>',
)}`;

const config: UserConfig<DefaultTheme.Config> = {
  title: 'koa-bosun',
  description: 'A sized, supervised, drained cluster for Koa and any Node.js server, in containers',
  lang: 'en-GB',
  head: [['link', { rel: 'icon', href: ICON }]],
  base: process.env.SITE_BASE ?? '/',
  srcDir: '../..',
  outDir: './dist',
  srcExclude: readdirSync(ROOT).flatMap(name => (name === 'docs' || PAGES.includes(name) ? [] : [name, `${name}/**`])),
  rewrites: page => (page.startsWith(FILE_ROUTE) ? page.slice('docs/site/'.length) : sitePath(page)),
  markdown: asOnTheHost,
  buildEnd: ({ outDir }) => {
    for (const { path } of linkedFiles()) {
      const raw = rawPath(path);
      if (raw !== undefined) cpSync(join(ROOT, path), join(outDir, raw));
    }
  },
  transformPageData: ({ filePath, params, frontmatter }) => ({
    // A file has no place in the order of the pages.
    ...(PAGES.includes(filePath) ? {} : { frontmatter: { ...frontmatter, prev: false, next: false } }),
    description: PAGES.includes(filePath) ? descriptionOf(filePath) : `The file ${params?.file} of the repository`,
    ...(filePath === 'README.md' ? { titleTemplate: ':title: a supervised cluster for Node.js servers' } : {}),
  }),
  vite: {
    // A picture stays a file, so that only the variant that is shown is loaded.
    build: { assetsInlineLimit: 0, target: 'es2022' },
    publicDir: false,
    plugins: [vueOfTheSite],
  },
  themeConfig: {
    nav: [
      { text: 'Guide', link: '/guide/adopt', activeMatch: '^/(guide/|$)' },
      { text: 'Reference', link: '/reference/environment', activeMatch: '^/(reference/|node-options)' },
      {
        text: 'Background',
        link: '/architecture',
        activeMatch: '^/(architecture|draining|failures|trust|limits|benchmarks|comparison|decisions/)',
      },
    ],
    sidebar: sidebar(),
    outline: { level: [2, 3] },
    search: { provider: 'local' },
    externalLinkIcon: true,
    notFound: {
      title: 'No such page',
      quote: 'The address is wrong, or the page has moved. The search finds pages by their words.',
      linkText: 'To the first page',
      linkLabel: 'To the first page',
    },
  },
};

export default config;
