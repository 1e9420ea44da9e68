/** How texts of a page become those of the site. Pure. */

/** The anchor of a heading, as GitHub makes it; test/docs.test.ts checks links by the same rule. */
export function slugify(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}_\s-]/gu, '')
    .replace(/\s/g, '-');
}

/**
 * A picture whose sources depend on the system's colour scheme, once for each scheme: here the reader can select the scheme, and the style
 * sheet hides the other picture.
 */
export function bothSchemes(html: string): string {
  return html.replace(/<picture>[\s\S]*?<\/picture>/g, picture => {
    const forScheme = (scheme: string) => {
      const other = scheme === 'dark' ? 'light' : 'dark';
      return picture
        .replace(/<source [^>]*>\s*/g, source => {
          if (source.includes(`(prefers-color-scheme: ${other})`)) return '';
          return source.replace(`(prefers-color-scheme: ${scheme})`, 'all').replace(/all and | and all/, '');
        })
        .replace('<picture>', `<picture class="in-${scheme}">`)
        .replace('<img ', '<img loading="lazy" ')
        .replace(/(src|srcset)="(?!\.|\/|[a-z]+:)/g, '$1="./');
    };
    return picture.includes('prefers-color-scheme') ? forScheme('light') + forScheme('dark') : picture;
  });
}
