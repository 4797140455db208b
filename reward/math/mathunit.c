/* mathunit.c - symbols are a base with an optional prefix, words likewise, so that the tables stay
 * short: "m" with the prefixes gives mm, cm and km, "meter" gives kilometers. Symbols tell capital
 * from small letters, words do not. */
#include "reward/math/mathunit.h"

#include "base/words.h"

#include <ctype.h>
#include <string.h>

enum { NAME_MAX_BYTES = 40 };

/* Symbols that take prefixes. */
static const char *const bases[] = {
    "m",  "g",   "s",   "A",   "K",  "mol", "cd", "Hz",  "N",   "Pa", "J",  "W",   "C",
    "V",  "F",   "S",   "Wb",  "T",  "H",   "lm", "lx",  "Bq",  "Gy", "Sv", "kat", "L",
    "l",  "eV",  "bit", "b",   "B",  "cal", "t",  "bar", "rad", "sr", "Wh", "Ah",  "M",
    "pc", "bps", "Da",  "ohm", "Ci", "Cal", "G",  "u",   "erg", "yr", NULL};
static const char *const prefixes[] = {"da", "Ki", "Mi", "Gi", "Ti", "Y", "Z", "E", "P",
                                       "T",  "G",  "M",  "k",  "h",  "d", "c", "m", "u",
                                       "n",  "p",  "f",  "a",  "z",  "y", NULL};

/* Symbols without prefixes. */
static const char *const plain[] = {
    "in",   "ft",  "yd",   "yds", "mi",   "nmi",    "oz",     "lb",   "lbs", "st",   "gal",  "qt",
    "pt",   "tsp", "tbsp", "cup", "ac",   "ha",     "min",    "mins", "h",   "hr",   "hrs",  "sec",
    "secs", "d",   "wk",   "wks", "mo",   "yr",     "yrs",    "deg",  "rpm", "rps",  "mph",  "kph",
    "kmh",  "fps", "bpm",  "psi", "ppm",  "ppb",    "hp",     "BTU",  "Btu", "atm",  "torr", "Torr",
    "mmHg", "dB",  "gr",   "cc",  "sq",   "cu",     "r",      "rev",  "AU",  "ly",   "amu",  "am",
    "pm",   "AM",  "PM",   "Am",  "Pm",   "kn",     "kt",     "dpi",  "px",  "D",    "R",    "mpg",
    "cps",  "lbf", "kgf",  "ml",  "kcal", "arcsec", "arcmin", "dyn",  "Mpc", "degC", "degF", NULL};

static const char *const currencies[] = {"USD", "EUR", "GBP", "INR", "Rs",  "Re",  "CAD", "AUD",
                                         "CNY", "RMB", "JPY", "CHF", "HKD", "SGD", "NZD", "KRW",
                                         "BRL", "MXN", "ZAR", "SEK", "NOK", "DKK", "PLN", "US",
                                         "Tk",  "PHP", "THB", "RUB", "TL",  NULL};

/* Symbols of letters that are no product of variables even right behind a number. */
static const char *const glued[] = {
    "cm", "mm",  "km",  "nm",  "kg",  "mg",  "lb",  "lbs", "oz",  "ml",  "mL",  "ft",   "in",
    "yd", "yds", "mi",  "hr",  "hrs", "sec", "min", "mph", "kph", "rpm", "day", "AM",   "PM",
    "Am", "Pm",  "deg", "rad", "cup", "dm",  "ms",  "Hz",  "kHz", "MHz", "GHz", "THz",  "kW",
    "MW", "GW",  "kV",  "kJ",  "MJ",  "kPa", "MPa", "kWh", "mAh", "kB",  "MB",  "GB",   "TB",
    "eV", "keV", "MeV", "GeV", "dB",  "mol", "cal", "psi", "ppm", "gal", "min", "mins", "secs",
    "yr", "yrs", "wk",  "wks", "tsp", "km",  "hPa", "fps", "mpg", "cc",  "kmh", NULL};

/* Small letters that are units only if a blank stands before them. */
static const char *const spaced[] = {"am",  "pm",  "sq",  "cu",  "nmi", "atm", "amu",
                                     "rps", "rev", "bps", "bar", "bit", NULL};

/* Words that take prefixes, in the singular. */
static const char *const word_bases[] = {
    "meter", "metre",        "gram",     "gramme",   "liter",   "litre",  "second",
    "watt",  "joule",        "volt",     "ampere",   "amp",     "newton", "pascal",
    "hertz", "byte",         "bit",      "calorie",  "ton",     "tonne",  "ohm",
    "mole",  "parsec",       "kelvin",   "farad",    "coulomb", "tesla",  "henry",
    "lumen", "electronvolt", "watthour", "angstrom", NULL};
static const char *const word_prefixes[] = {"kilo", "milli", "centi", "micro", "nano", "mega",
                                            "giga", "deci",  "hecto", "deca",  "deka", "tera",
                                            "pico", "peta",  "femto", NULL};
static const char *const words[] = {
    "inch",      "inches",     "foot",     "feet",    "yard",      "mile",       "ounce",
    "pound",     "gallon",     "quart",    "pint",    "cup",       "tablespoon", "teaspoon",
    "acre",      "hectare",    "minute",   "hour",    "day",       "week",       "fortnight",
    "month",     "year",       "decade",   "century", "centuries", "degree",     "radian",
    "celsius",   "fahrenheit", "dollar",   "cent",    "euro",      "rupee",      "yen",
    "yuan",      "penny",      "pennies",  "pence",   "nickel",    "dime",       "peso",
    "franc",     "won",        "unit",     "square",  "cubic",     "buck",       "arcsecond",
    "arcminute", "revolution", "rotation", "turn",    "knot",      "o'clock",    "decibel",
    "steradian", "stone",      "bushel",   "barrel",  "lightyear", "erg",        "dyne",
    "micron",    "atmosphere", NULL};

/* Counters and units of Chinese and Japanese; they follow the number without a blank. */
static const char ideographs[] = " 个 元 米 厘米 千米 毫米 公里 公斤 千克 "
                                 "克 吨 度 岁 人 天 小时 分钟 分 秒 年 月 日 "
                                 "时 升 毫升 円 只 本 条 种 次 名 件 块 张 辆 "
                                 "棵 页 元钱 公顷 角 箱 个人 组 排 平方米 "
                                 "平方厘米 平方千米 立方米 立方厘米 ";

static bool is_ideograph(const char *s, size_t n) {
    char name[NAME_MAX_BYTES + 2] = " ";
    if (n == 0 || n >= NAME_MAX_BYTES || (unsigned char)*s < 0x80) return false;
    memcpy(name + 1, s, n);
    name[n + 1] = ' ';
    return strstr(ideographs, name) != NULL;
}

/* The sign for micro is "u" here. */
static bool is_symbol(const char *s, size_t n) {
    if (words_have(bases, s, n) || words_have(plain, s, n)) return true;
    for (size_t i = 0; prefixes[i]; i++) {
        size_t m = strlen(prefixes[i]);
        if (n > m && memcmp(prefixes[i], s, m) == 0 && words_have(bases, s + m, n - m)) return true;
    }
    return false;
}

/* The word in lower case, without the s of its plural; its length, 0 if it is too long. */
static size_t singular(char out[NAME_MAX_BYTES], const char *s, size_t n) {
    if (n >= NAME_MAX_BYTES) return 0;
    for (size_t i = 0; i < n; i++)
        out[i] = (char)tolower((unsigned char)s[i]);
    return n > 3 && out[n - 1] == 's' ? n - 1 : n;
}

static bool is_unit_word(const char *s, size_t n) {
    char w[NAME_MAX_BYTES];
    size_t m = singular(w, s, n);
    if (m == 0) return false;
    if (words_have(words, w, m) || words_have(words, w, n)) return true;
    if (words_have(word_bases, w, m) || words_have(word_bases, w, n)) return true;
    for (size_t i = 0; word_prefixes[i]; i++) {
        size_t k = strlen(word_prefixes[i]);
        if (m <= k || memcmp(word_prefixes[i], w, k) != 0) continue;
        if (words_have(word_bases, w + k, m - k) || words_have(word_bases, w + k, n - k))
            return true;
    }
    return false;
}

bool mathunit_is_letter(char c) {
    return c && strchr("msghdLlKAVNJWC", c) != NULL;
}

bool mathunit_is_quotient(char over, char under) {
    return over && under && strchr("mgNJWVCLl", over) && strchr("smghLlK", under) && over != under;
}

bool mathunit_is_currency(const char *s, size_t n) {
    return words_have(currencies, s, n);
}

bool mathunit_is(const char *s, size_t n, enum mathunit_face face) {
    if (is_ideograph(s, n) || (n > 2 && words_have(currencies, s, n))) return true;
    if (n > 2 && is_unit_word(s, n)) return true;
    if (face == MATHUNIT_UPRIGHT) return is_symbol(s, n) || words_have(currencies, s, n);
    if (n < 2) return false;
    if (words_have(glued, s, n)) return true;
    if (face == MATHUNIT_GLUED) return n > 3 && is_symbol(s, n);
    bool capital = false;
    for (size_t i = 0; i < n; i++)
        capital = capital || isupper((unsigned char)s[i]);
    return words_have(spaced, s, n) || words_have(currencies, s, n) ||
           (capital && is_symbol(s, n)) || (n > 2 && words_have(plain, s, n));
}
