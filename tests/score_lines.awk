# Lines for `weir score`: mixed lengths from a fixed generator, ids below 32, at most 24 tokens. awk -v lines=N -f
BEGIN {
    x = 12345
    for (line = 0; line < lines; line++) {
        for (part = 0; part < 2; part++) {
            x = (x * 1103515245 + 12345) % 2147483648
            n = 1 + int(x / 65536) % 12
            s = ""
            for (i = 0; i < n; i++) {
                x = (x * 1103515245 + 12345) % 2147483648
                s = s (i ? ", " : "") int(x / 65536) % 32
            }
            ids[part] = s
        }
        printf "{\"prompt_ids\": [%s], \"response_ids\": [%s]}\n", ids[0], ids[1]
    }
}
