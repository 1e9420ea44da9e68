/**
 * The pages of the site: which files they come from, where each one is shown, and their order. Pure, but for reading the tree.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

const FOLDERS = [
  'docs',
  ...namesIn('docs').flatMap(name => (name !== 'site' && isFolder(`docs/${name}`) ? [`docs/${name}`] : [])),
];

/** Every page, by its path in the repository. */
export const PAGES: readonly string[] = [
  'README.md',
  'CHANGELOG.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  ...FOLDERS.flatMap(folder => namesIn(folder).flatMap(name => (name.endsWith('.md') ? [`${folder}/${name}`] : []))),
];

function isFolder(path: string): boolean {
  return statSync(join(ROOT, path)).isDirectory();
}

function namesIn(folder: string): string[] {
  return readdirSync(join(ROOT, folder)).sort();
}

/** A part of the sidebar. Pages are named by their path on the site, without `.md`. */
interface Group {
  text: string;
  pages: readonly string[];
  /** Pages of this folder that no group names come last in this group. */
  rest?: string;
}

/** In the order in which a newcomer needs them: the guide by task, then the reference, then the background. */
const GROUPS: readonly Group[] = [
  { text: 'Begin', pages: ['index', 'guide/adopt', 'guide/init', 'guide/typescript', 'guide/development', 'guide/migrating'] },
  {
    text: 'Deploy',
    pages: [
      'guide/docker',
      'guide/kubernetes',
      'guide/kubernetes-redis',
      'guide/helm',
      'guide/sizing',
      'guide/autoscaling',
      'guide/health-checks',
    ],
  },
  { text: 'Stop and replace', pages: ['guide/shutdown', 'guide/rolling-restarts', 'guide/upgrading'] },
  {
    text: 'Connections and state',
    pages: [
      'guide/balancing',
      'guide/limits',
      'guide/sessions',
      'guide/events',
      'guide/leader',
      'guide/websockets',
      'guide/redis',
    ],
  },
  {
    text: 'Operate',
    pages: ['guide/troubleshooting', 'guide/observability', 'guide/alerts', 'guide/tracing', 'guide/load-testing'],
    rest: 'guide',
  },
  {
    text: 'Reference',
    pages: ['environment', 'cli', 'kit', 'http-api', 'signals', 'exit-codes', 'metrics', 'log-events']
      .map(name => `reference/${name}`)
      .concat('node-options'),
    rest: 'reference',
  },
  {
    text: 'Background',
    pages: ['architecture', 'draining', 'failures', 'trust', 'limits', 'benchmarks', 'benchmark-history', 'comparison'],
    rest: '.',
  },
  { text: 'Decisions', pages: ['decisions/index'], rest: 'decisions' },
  { text: 'Project', pages: ['changelog', 'contributing'] },
];

/** Where the site shows a page of the repository: docs/ is its root, and a README the index of its folder. */
export function sitePath(page: string): string {
  const path = page.replace(/^docs\//, '').replace(/(^|\/)README\.md$/, '$1index.md');
  return path.includes('/') ? path : path.toLowerCase();
}

export interface SidebarGroup {
  text: string;
  items: { text: string; link: string }[];
}

/** @throws Error if a group names a page that does not exist */
export function sidebar(): SidebarGroup[] {
  const sources = new Map(PAGES.map(page => [sitePath(page).replace(/\.md$/, ''), page]));
  const named = new Set(GROUPS.flatMap(({ pages }) => pages));
  const homeless = [...sources.keys()].filter(
    path => !named.has(path) && !GROUPS.some(({ rest }) => rest === posix.dirname(path)),
  );
  if (homeless.length > 0) throw new Error(`no group of docs/site/pages.ts shows ${homeless.join(', ')}`);
  return GROUPS.map(({ text, pages, rest }) => ({
    text,
    items: [...pages, ...[...sources.keys()].filter(path => !named.has(path) && posix.dirname(path) === rest)].map(path => {
      const source = sources.get(path);
      if (source === undefined) throw new Error(`docs/site/pages.ts names the page "${path}", which does not exist`);
      return {
        text: source === 'README.md' ? 'What it is' : shortTitle(headingOf(source)),
        link: `/${path.replace(/(^|\/)index$/, '$1')}`,
      };
    }),
  }));
}

/** The first heading of a page, without its marks. */
export function headingOf(page: string): string {
  const [, heading = page] = /^# (.*)$/m.exec(readFileSync(join(ROOT, page), 'utf8')) ?? [];
  return heading.replaceAll('`', '');
}

const shortTitle = (heading: string) => heading.replace(/: .*/, '');

/** The first paragraph of a page as plain text of at most 160 characters, cut between two words. */
export function descriptionOf(page: string): string {
  const paragraphs = readFileSync(join(ROOT, page), 'utf8').split(/\n\s*\n/);
  const prose = paragraphs.find(text => /^[^#|<`!>\s-]|^`[^`]/.test(text) && !text.startsWith('```')) ?? headingOf(page);
  const plain = prose
    .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replace(/[`*]/g, '')
    .replace(/\s+/g, ' ')
    .replace(/:$/, '.')
    .trim();
  return plain.length <= 160 ? plain : `${plain.slice(0, 157).replace(/\s+\S*$/, '')} …`;
}

/**
 * The link of a page to another file, as the site shows it: to the page, or to the text of a file that is no page.
 * @param page the page that holds the link, by its path in the repository
 * @throws Error if there is no such file
 */
export function siteLink(page: string, href: string): string {
  if (/^[a-z][a-z0-9+.-]*:|^#/i.test(href)) return href;
  const [path = '', hash] = decodeURI(href).split('#');
  const target = posix.normalize(posix.join(posix.dirname(page), path)).replace(/\/$/, '');
  if (target.startsWith('..') || !existsSync(join(ROOT, target)))
    throw new Error(`${page} links to ${href}, which does not exist`);
  const shown = PAGES.includes(target) ? sitePath(target) : filePage(target);
  return `/${shown}${hash === undefined ? '' : `#${hash}`}`;
}

const filePage = (path: string) => `files/${path.replace(/^\./, '')}.md`;

/** The files that are no pages, to which pages link: the site shows their text, since it knows no address of the repository. */
export function linkedFiles(): { path: string; page: string; content: string }[] {
  const paths = PAGES.flatMap(page => {
    const text = readFileSync(join(ROOT, page), 'utf8').replace(/^```[\s\S]*?^```/gm, '');
    return [...text.matchAll(/\]\(([^)\s#]+)[^)]*\)/g)]
      .filter(([, href = '']) => !/^[a-z][a-z0-9+.-]*:/i.test(href) && !/\.(?:png|svg|jpe?g)$/.test(href))
      .map(([, href = '']) => posix.join(posix.dirname(page), href).replace(/\/$/, ''))
      .filter(path => !PAGES.includes(path) && existsSync(join(ROOT, path)));
  });
  return [...new Set(paths)].map(path => ({ path, page: filePage(path), content: textOf(path) }));
}

/** Where the site has a file that pages link to as it is, for a download; undefined for a folder. */
export const rawPath = (path: string): string | undefined => (isFolder(path) ? undefined : `raw/${path.replace(/^\./, '')}`);

/** A file as a page: its text as one code block, and a download. A folder: the names of its files. */
function textOf(path: string): string {
  const text = isFolder(path) ? namesIn(path).join('\n') : readFileSync(join(ROOT, path), 'utf8');
  const language = /\.(ts|js|mjs|json|ya?ml|sh|css|toml)$/.exec(path)?.[1] ?? 'text';
  const raw = rawPath(path);
  const up = '../'.repeat(filePage(path).split('/').length - 1);
  // HTML: the site would take a file without an extension for a page.
  const download = raw === undefined ? '' : `<a href="${up}${raw}" download>Download</a>\n\n`;
  return `# ${path}\n\n${download}\`\`\`\`\`\`${language}\n${text.trimEnd()}\n\`\`\`\`\`\`\n`;
}
