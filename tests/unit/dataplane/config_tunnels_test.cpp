// Tunnels in the YAML: what is right becomes the plane's, every error has its place.
#include "dataplane/config.hpp"

#include <arpa/inet.h>
#include <fstream>
#include <unistd.h>

#include <gtest/gtest.h>

namespace godwit::test {
namespace {

class TunnelYaml : public testing::Test {
protected:
    ~TunnelYaml() override { unlink(file_.c_str()); }
    Result<dataplane::SwitchConfig> load(const std::string& ports) {
        std::ofstream(file_) << "apiVersion: godwit/v1\nkind: SwitchConfig\nid: sw-1\n"
                                "listen: ['unix:/run/s']\npeer_token_file: /etc/t\nports:\n"
                             << ports;
        return dataplane::load_config(file_);
    }
    // "pointer line message" of every error; the ports begin in line 7.
    std::string errors(const std::string& ports) {
        Result<dataplane::SwitchConfig> config = load(ports);
        std::string text;
        if (config) return text;
        for (const FieldError& e : config.error().fields)
            text += e.pointer + " " + std::to_string(e.line) + " " + e.message + "\n";
        return text;
    }
    void expect_all(const std::string& ports, std::initializer_list<const char*> wanted) {
        const std::string text = errors(ports);
        for (const char* one : wanted)
            EXPECT_NE(text.find(one), std::string::npos) << one << "\nin\n" << text;
        EXPECT_EQ(static_cast<std::size_t>(std::ranges::count(text, '\n')), wanted.size()) << text;
    }

private:
    std::string file_ = "/tmp/gwt" + std::to_string(getpid()) + "-tunnels.yaml";
};

const std::string kUplink = "  - {name: up, interface: eth0, role: uplink}\n";
const std::string kFabric = "  - {name: fabric, interface: eth3, role: underlay, mtu: 1550}\n";
std::string tunnel(const std::string& vxlan, const std::string& rest = "role: vm") {
    return "  - {name: vx, interface: vx, " + rest + ", vxlan: {" + vxlan + "}}\n";
}
const std::string kGood = "local: 10.98.0.1, remote: 10.98.0.2, vni: 16777215, underlay: fabric";

TEST_F(TunnelYaml, BecomesAPortOfThePlane) {
    Result<dataplane::SwitchConfig> config =
        load(kUplink + tunnel(kGood + ", bridge: br0") + kFabric);
    ASSERT_TRUE(config) << config.error().text();
    const auto made = dataplane::tunnel_of(config->ports[1]);
    ASSERT_TRUE(made);
    EXPECT_EQ(*made, (dataplane::Tunnel{inet_addr("10.98.0.1"), inet_addr("10.98.0.2"), 16777215,
                                        4789, 1500, "fabric", "br0"}));
    EXPECT_FALSE(dataplane::tunnel_of(config->ports[0]));
}

TEST_F(TunnelYaml, MayBeTheOnlyUplink) {
    EXPECT_EQ(errors(tunnel(kGood, "role: uplink") + kFabric), "");
}

TEST_F(TunnelYaml, EveryErrorHasItsPlace) {
    expect_all(
        kUplink + kFabric +
            tunnel("local: fd00::1, remote: 239.1.1.1, vni: 0, udp_port: 65536, underlay: up, "
                   "bridge: a-name-that-is-too-long"),
        {"/ports/2/vxlan/local 9 \"fd00::1\" is no IPv4",
         "/ports/2/vxlan/remote 9 239.1.1.1 is no address of one machine",
         "/ports/2/vxlan/vni 9 expected 1 to 16777215",
         "/ports/2/vxlan/udp_port 9 expected 1 to 65535",
         "/ports/2/vxlan/underlay 9 \"up\" is no port with role: underlay",
         "/ports/2/vxlan/bridge 9 expected the name of a bridge"});
    expect_all(kUplink + kFabric +
                   tunnel("local: 10.98.0.1, remote: 10.98.0.1, vni: 16777216, underlay: nowhere"),
               {"/ports/2/vxlan/remote 9 is the local end too", "/ports/2/vxlan/vni 9 expected",
                "/ports/2/vxlan/underlay 9 \"nowhere\" is no port"});
}

TEST_F(TunnelYaml, WhatIsMissingIsNamed) {
    expect_all(kUplink + kFabric + tunnel("vni: 7"),
               {"/ports/2/vxlan/local 9 is missing", "/ports/2/vxlan/remote 9 is missing",
                "/ports/2/vxlan/underlay 9 is missing"});
}

TEST_F(TunnelYaml, AnUnderlayWithoutRoomIsRefusedWithBothNumbers) {
    const std::string narrow = "  - {name: fabric, interface: eth3, role: underlay, mtu: 1549}\n";
    expect_all(kUplink + tunnel(kGood) + narrow,
               {"/ports/1/vxlan/underlay 8 has mtu 1549, and frames of mtu 1500 need 1550"});
    expect_all(kUplink + tunnel(kGood) + "  - {name: fabric, interface: eth3, role: underlay}\n",
               {"has mtu 1500, and frames of mtu 1500 need 1550"});
    // The VMs' frames count, not only what the tunnel says of itself.
    expect_all(
        kUplink + tunnel(kGood) + kFabric + "  - {name: b, interface: b, role: vm, mtu: 9000}\n",
        {"has mtu 1550, and frames of mtu 9000 need 9050", "/ports/1/mtu 8 is 1500, less than"});
    EXPECT_EQ(errors(kUplink + tunnel(kGood, "role: vm, mtu: 1450") +
                     "  - {name: fabric, interface: eth3, role: underlay}\n"),
              "");
}

TEST_F(TunnelYaml, TwoTunnelsOfOneNumberAreRefused) {
    std::string second = tunnel(kGood);
    second.replace(second.find("vx,"), 2, "vy")
        .replace(second.find("interface: vx"), 13, "interface: vy");
    expect_all(kUplink + kFabric + tunnel(kGood) + second,
               {"/ports/3/vxlan/vni 10 16777215 is port vx's"});
}

// A broadcast would come by one and leave by the other for ever.
TEST_F(TunnelYaml, ATunnelBesideAnotherUplinkIsRefused) {
    expect_all(kUplink + kFabric + tunnel(kGood, "role: uplink"),
               {"/ports/2/role 9 a tunnel as uplink must be the only one"});
}

TEST_F(TunnelYaml, AnUnderlayIsNoTunnelAndNoWayOut) {
    expect_all(
        tunnel(kGood, "role: underlay") + kFabric,
        {"/ports 7 has no port with role: uplink", "/ports/0/role 7 underlay cannot be a tunnel"});
}

}  // namespace
}  // namespace godwit::test
