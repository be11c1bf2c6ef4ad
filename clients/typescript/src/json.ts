/**
 * JSON as the format wants it: keys keep their order, none stands twice, and floats are written as
 * Python writes them. JavaScript's own reorders keys that look like numbers.
 */
import { protocolError, recordError } from "./errors.js";

export type Json = null | boolean | number | string | Json[] | Map<string, Json>;

const TOKEN =
  /[\t\n\r ]*(?:([{}[\],:])|("(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")|(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)|(true|false|null))/y;
const DEPTH_MAX = 100;

/** Return the value of a JSON text; `what` names it in errors. */
export function parseJson(text: string, what: string): Json {
  const fail = (why: string) => protocolError(`${what} is not JSON: ${why}`);
  let at = 0;
  let depth = 0;

  function next(): RegExpExecArray {
    TOKEN.lastIndex = at;
    const token = TOKEN.exec(text);
    if (token === null) throw fail(`at character ${at}`);
    at = TOKEN.lastIndex;
    return token;
  }

  function value(token: RegExpExecArray): Json {
    const [, mark, string, number, word] = token;
    if (string !== undefined) return JSON.parse(string) as string;
    if (number !== undefined) return Number(number);
    if (word !== undefined) return JSON.parse(word) as boolean | null;
    if (++depth > DEPTH_MAX) throw fail("it nests too deeply");
    const result = mark === "{" ? object() : mark === "[" ? list() : undefined;
    if (result === undefined) throw fail(`at character ${at}`);
    depth--;
    return result;
  }

  function list(): Json[] {
    const items: Json[] = [];
    let token = next();
    while (token[1] !== "]") {
      items.push(value(token));
      token = next();
      if (token[1] === ",") {
        token = next();
        if (token[1] === "]") throw fail("a comma ends a list");
      } else if (token[1] !== "]") throw fail("no comma in a list");
    }
    return items;
  }

  function object(): Map<string, Json> {
    const entries = new Map<string, Json>();
    let token = next();
    while (token[1] !== "}") {
      if (token[2] === undefined) throw fail("a key is no string");
      const key = JSON.parse(token[2]) as string;
      if (entries.has(key)) throw fail("a key stands twice in an object");
      if (next()[1] !== ":") throw fail("no colon after a key");
      entries.set(key, value(next()));
      token = next();
      if (token[1] === ",") {
        token = next();
        if (token[1] === "}") throw fail("a comma ends an object");
      } else if (token[1] !== "}") throw fail("no comma in an object");
    }
    return entries;
  }

  const result = value(next());
  if (/[^\t\n\r ]/.test(text.slice(at))) throw fail("something follows it");
  return result;
}

/** Return a string in JSON. */
export function writeString(text: string): string {
  const written = JSON.stringify(text);
  // A lone surrogate is escaped, and all other text beyond ASCII is not.
  if (/\\ud[89a-f]/.test(written.replaceAll("\\\\", ""))) {
    throw recordError("a name or a text holds half of a surrogate pair, which is no Unicode text");
  }
  return written;
}

/** Return a finite float in JSON, digit for digit as Python writes it. */
export function writeFloat(value: number): string {
  if (Object.is(value, -0)) return "-0.0";
  const [mantissa = "", power = "0"] = value.toExponential().split("e");
  const exponent = Number(power);
  if (value !== 0 && (exponent < -4 || exponent >= 16)) {
    const digits = String(Math.abs(exponent)).padStart(2, "0");
    return `${mantissa}e${exponent < 0 ? "-" : "+"}${digits}`;
  }
  if (exponent >= 0) {
    const text = String(value); // JavaScript has no exponent below 1e21
    return text.includes(".") ? text : `${text}.0`;
  }
  return value === 0 ? "0.0" : String(value);
}
