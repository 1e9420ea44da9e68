import { linkedFiles } from '../pages.ts';

export default {
  paths: () =>
    linkedFiles().map(({ path, page, content }) => ({
      params: { path: page.replace(/^files\/|\.md$/g, ''), file: path },
      content,
    })),
};
