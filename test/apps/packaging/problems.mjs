// Prints what publint and arethetypeswrong find in a tarball, as JSON.
import { readFileSync } from 'node:fs';
import { checkPackage, createPackageFromTarballData } from '@arethetypeswrong/core';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';

const file = readFileSync(process.argv[2]);
const { messages, pkg } = await publint({ pack: { tarball: new Uint8Array(file).buffer }, strict: true });
const { types, problems } = await checkPackage(createPackageFromTarballData(file));
console.log(
  JSON.stringify({
    publint: messages.map(message => formatMessage(message, pkg, { color: false })),
    types: types && types.kind,
    typeProblems: problems,
  }),
);
