/** Runs in each page of the site: what is wrong with what is shown, as a list of sentences. */
globalThis.siteChecks = { layout, pictures };

const MIN_TEXT_PX = 12;

/** Drawn text scales with its picture. */
const MIN_DRAWN_TEXT_PX = 9;

const isShown = element => element.getClientRects().length > 0;
const boxOf = element => element.getBoundingClientRect();
const named = element => `<${element.localName} class="${element.className}"> ${element.textContent.trim().slice(0, 40)}`;

function layout() {
  const problems = [];
  const { clientWidth, scrollWidth } = document.documentElement;
  if (scrollWidth > clientWidth) problems.push(`the page scrolls sideways: ${scrollWidth} of ${clientWidth} px`);
  const content = document.querySelector('.vp-doc');
  if (content === null) return [...problems, ...(document.querySelector('.NotFound') === null ? ['shows no page'] : [])];
  const headings = document.querySelectorAll('.vp-doc h1');
  if (headings.length !== 1) problems.push(`has ${headings.length} headings of the first level`);
  for (const box of content.querySelectorAll('table, pre, picture img, p, ul, ol')) {
    if (!isShown(box)) continue;
    const { left, right } = boxOf(box);
    if (left < 0 || right > clientWidth + 1) problems.push(`leaves the screen (${left} to ${right} px): ${named(box)}`);
    const px = Number.parseFloat(getComputedStyle(box).fontSize);
    if (px < MIN_TEXT_PX) problems.push(`text of ${px} px: ${named(box)}`);
  }
  const columns = ['.VPSidebar', '.content-container', '.VPDocAside, .aside'].map(selector => document.querySelector(selector));
  if (clientWidth > 960) {
    const boxes = columns.filter(column => column !== null && isShown(column)).map(boxOf);
    if (boxes.length < 2) problems.push('shows no sidebar');
    for (const [index, box] of boxes.entries())
      if (index > 0 && boxes[index - 1].right > box.left + 1) problems.push(`column ${index} lies over the next`);
    const { width } = boxOf(content);
    if (width < 500 || width > 800) problems.push(`lines of ${width} px`);
  } else if (columns[0] !== null && boxOf(columns[0]).right > 1 && getComputedStyle(columns[0]).opacity !== '0') {
    problems.push('shows the sidebar before it is opened');
  }
  return problems;
}

/** @param scheme the colour scheme in use, `light` or `dark` */
async function pictures(scheme) {
  const all = [...document.querySelectorAll('.vp-doc picture')].filter(isShown);
  const twins = document.querySelectorAll('.vp-doc picture').length;
  const problems = twins === 2 * all.length ? [] : [`${all.length} of ${twins} pictures are shown`];
  for (const picture of all) {
    const image = picture.querySelector('img');
    image.loading = 'eager';
    await image.decode().catch(error => problems.push(`${image.currentSrc}: ${error.message}`));
    const [name] = image.currentSrc.split('/').slice(-1);
    if (!name.includes(`-${scheme}`)) problems.push(`shows ${name} in ${scheme}`);
    if (name.endsWith('.svg')) problems.push(...(await drawnTexts(image, name)));
    if (image.alt.length < 40) problems.push(`${name}: the alternative text says too little: "${image.alt}"`);
  }
  return problems;
}

/** The texts of a drawn picture: large enough on this screen, inside the picture, and none over another. */
async function drawnTexts(image, name) {
  const text = await (await fetch(image.currentSrc)).text();
  const svg = document.importNode(new DOMParser().parseFromString(text, 'image/svg+xml').documentElement, true);
  document.body.append(svg);
  const { width, height } = svg.viewBox.baseVal;
  const px = (Number(svg.getAttribute('font-size')) * boxOf(image).width) / width;
  const problems = px < MIN_DRAWN_TEXT_PX ? [`${name}: text of ${px.toFixed(1)} px`] : [];
  const texts = [...svg.querySelectorAll('text')].map(element => ({ content: element.textContent, box: element.getBBox() }));
  for (const [index, { content, box }] of texts.entries()) {
    if (box.x < 1 || box.y < 1 || box.x + box.width > width - 1 || box.y + box.height > height - 1)
      problems.push(`${name}: leaves the picture: ${content}`);
    for (const other of texts.slice(index + 1))
      if (overlap(box, other.box)) problems.push(`${name}: "${content}" lies over "${other.content}"`);
  }
  svg.remove();
  return problems;
}

function overlap(one, other) {
  const across = Math.min(one.x + one.width, other.x + other.width) - Math.max(one.x, other.x);
  const down = Math.min(one.y + one.height, other.y + other.height) - Math.max(one.y, other.y);
  return across > 1 && down > 3;
}
