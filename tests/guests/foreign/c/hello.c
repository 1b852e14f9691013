/* A preview 1 command. */
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    char name[64] = "";
    FILE *file = fopen("/config/name", "r");
    if (!file || !fgets(name, sizeof name, file)) {
        perror("/config/name");
        return 3;
    }
    printf("%s %s from C %s\n", getenv("GREETING"), name, argc > 1 ? argv[1] : "");
    return 0;
}
