// Without the fonts: the system has some.
import Theme from 'vitepress/theme-without-fonts';
import './style.css';

export default Theme;
