/** Notes the type that the compiler emits for the first parameter. */
function noted(target: object, name: string): void {
  const [type] = Reflect.getMetadata('design:paramtypes', target, name) as { name: string }[];
  Object.assign(target, { typeOfArgument: type?.name });
}

export class ParcelController {
  declare typeOfArgument: string;

  @noted
  find(id: string): string {
    return id;
  }
}
