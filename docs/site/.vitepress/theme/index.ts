import type { Theme } from 'vitepress';
// Without the fonts: the system has some.
import DefaultTheme from 'vitepress/theme-without-fonts';
import './style.css';

const theme: Theme = {
  extends: DefaultTheme,
  enhanceApp() {
    if (typeof window !== 'undefined') printInLight(document.documentElement.classList);
  },
};

/** Browsers print no backgrounds: the text of the dark scheme would be pale on white. */
function printInLight(classes: DOMTokenList): void {
  let wasDark = false;
  window.addEventListener('beforeprint', () => {
    wasDark = classes.contains('dark');
    classes.remove('dark');
  });
  window.addEventListener('afterprint', () => classes.toggle('dark', wasDark));
}

export default theme;
